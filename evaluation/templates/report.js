"use strict";
// The gallery: show the galaxies of a group, of a question, with an id; sort them. The cards are already on the page.
(() => {
  const form = document.getElementById("gallery-controls");
  if (!form) return;
  const holder = document.getElementById("gallery-cards");
  const cards = [...holder.children].map((element) => ({
    element,
    id: element.dataset.id,
    groups: element.dataset.groups.split(" "),
    measures: JSON.parse(element.dataset.measures),
  }));
  const MEASURE_OF = { worst: "error", best: "error", uncertain: "uncertainty", disagreeing: "disagreement" };

  const isShown = (card, { group, question, id }) => {
    if (id) return card.id.includes(id); // an id is looked for in all groups
    const ending = question === "0" ? "" : `-${question}`;
    if (group) return card.groups.includes(group + ending);
    return question === "0" || card.groups.some((name) => name.endsWith(ending));
  };
  const compare = (first, second, { sort, question, order }) => {
    const difference = sort === "id"
      ? first.id.localeCompare(second.id, undefined, { numeric: true })
      : first.measures[sort][question] - second.measures[sort][question];
    return order * difference;
  };
  const update = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const shown = cards.filter((card) => isShown(card, wanted));
    shown.sort((first, second) => compare(first, second, wanted));
    for (const card of shown) {
      for (const cell of card.element.querySelectorAll("[data-measure]")) {
        cell.textContent = card.measures[cell.dataset.measure][wanted.question].toFixed(3);
      }
    }
    holder.replaceChildren(...shown.map((card) => card.element));
    holder.classList.toggle("whole", form.whole.checked);
    holder.dataset.question = wanted.question;
    for (const question of holder.querySelectorAll(".question")) {
      const asked = `.question[data-question="${wanted.question}"]`;
      question.hidden = wanted.question !== "0" && !question.matches(asked) && !question.querySelector(asked);
    }
    document.getElementById("gallery-count").textContent = `${shown.length} of ${cards.length} galaxies`;
  };
  form.group.addEventListener("change", () => {
    if (form.group.value) form.sort.value = MEASURE_OF[form.group.value];
    form.order.value = form.group.value === "best" ? "1" : "-1";
  });
  form.addEventListener("input", update);
  form.addEventListener("change", update);
  update();
})();

// The embedding: choose method, colour and sets in Bokeh's models.
(() => {
  const form = document.getElementById("embedding-controls");
  if (!form) return;
  const update = () => {
    const { method, colour } = Object.fromEntries(new FormData(form));
    const isClass = colour === "class";
    document.getElementById("legend-class").hidden = !isClass;
    document.getElementById("legend-votes").hidden = isClass;
    const page = Bokeh.documents[0];
    const plot = page.get_model_by_name("plot");
    const [votes, classes] = plot.tags;
    for (const name of ["validation", "training"]) {
      const galaxies = page.get_model_by_name(`galaxies-${name}`);
      if (!galaxies) continue;
      const data = galaxies.data_source.data;
      galaxies.data_source.data = { ...data, x: data[`${method}_x`], y: data[`${method}_y`] };
      galaxies.glyph.fill_color = { field: colour, transform: isClass ? classes : votes };
      galaxies.visible = form[name].checked;
    }
    plot.reset.emit();
  };
  form.addEventListener("change", update);
})();
