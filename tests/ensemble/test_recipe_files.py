"""Files of recipes, and what they leave to their base."""

import os
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from ensemble.recipe import load_recipe
from ensemble.recipe_files import known_recipes, parse_settings, read_recipe_file
from galaxy_zoo.errors import RecipeError

ABOUT = '[about]\nsource = "me"\n'


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_an_unknown_recipe_names_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'ng_cn'; did you mean 'ng_cnn'\?") as raised:
        load_recipe("ng_cn")
    assert "quick" not in str(raised.value)


def test_a_users_own_file_is_a_recipe(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text(resources.files("ensemble.recipes").joinpath("quick.toml").read_text())
    assert load_recipe(str(own)).name == "mine"


def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for text, message in [(None, "cannot be read"), ("a = [", "not a TOML file")]:
        with subtests.test(text=text):
            path = tmp_path / "mine.toml"
            if text is not None:
                path.write_text(text)
            with pytest.raises(RecipeError, match=message):
                load_recipe(str(path))


def test_a_file_says_what_its_base_says_but_for_what_it_names(tmp_path: Path) -> None:
    own = write(tmp_path, f'base = "quick"\n{ABOUT}[view]\nflip = false\n[head]\nkind = "tree"\n')
    base = read_recipe_file("quick")
    expected = base | {"about": {"source": "me"}, "view": base["view"] | {"flip": False}}
    assert read_recipe_file(own) == expected
    assert load_recipe(own).table == expected


def test_a_table_of_another_kind_takes_nothing_from_the_base(tmp_path: Path) -> None:
    own = write(tmp_path, f'base = "quick"\n{ABOUT}[network]\nkind = "linnet"\nhidden = [8]\n')
    assert read_recipe_file(own)["network"] == {"kind": "linnet", "hidden": [8]}


def test_where_a_recipe_comes_from_is_not_taken_from_its_base(tmp_path: Path) -> None:
    own = write(tmp_path, 'base = "dieleman_relu"\n[network]\ndropout = 0.4\n')
    base = read_recipe_file("dieleman_relu")
    expected = base | {
        "about": {"source": "based on dieleman_relu"},
        "network": base["network"] | {"dropout": 0.4},
    }
    assert load_recipe(own).table == expected


WRONG_BASES = [
    ('base = "dielemann"', "no recipe 'dielemann' to be its base; did you mean 'dieleman'"),
    ("base = 3", "no recipe 3 to be its base"),
    ('base = "mine.toml"', "no recipe 'mine.toml' to be its base"),
    (
        f'base = "quick"\n{ABOUT}[view]\ncrop_pix = 3',
        r"\[view\]: unknown key 'crop_pix'; did you mean 'crop_px'",
    ),
    (f'base = "quick"\n{ABOUT}[veiw]\ncrop_px = 3', r"unknown table \[veiw\]; did you mean 'view'"),
    (f'base = "quick"\nview = 3\n{ABOUT}', r"\[view\] must be a table"),
]


def test_a_base_that_cannot_be_one_or_a_wrong_key_is_named(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for text, message in WRONG_BASES:
        with subtests.test(text=text), pytest.raises(RecipeError, match=message):
            load_recipe(write(tmp_path, text))


def test_a_setting_is_a_toml_value_or_a_bare_string() -> None:
    texts = ["a.b=1", "a.c = 1e-3", 'a.d="x"', "a.e=x/y = z", "a.f=[1, 2]", "b.b=true", "b.c.d="]
    assert parse_settings(texts) == {
        "a": {"b": 1, "c": 1e-3, "d": "x", "e": "x/y = z", "f": [1, 2]},
        "b": {"b": True, "c.d": ""},
    }


WRONG_SETTINGS = [
    (["batch_size=64"], r"is not TABLE\.KEY=VALUE, as in training\.batch_size=64"),
    (["training.batch_size"], "is not TABLE"),
    ([".x=1"], "is not TABLE"),
    (["a.=1"], "is not TABLE"),
    (["a.b=1", "a.c=1", "a.b=1"], r"a\.b is set twice"),
    (["a.b=1e99"], "the number 1e99 is out of range"),
    (["a.b=nan"], "the number nan is out of range"),
    (["a.b=" + "[" * 5000], "nested too deeply"),
]


def test_a_setting_that_cannot_be_read_is_named(subtests: pytest.Subtests) -> None:
    for texts, message in WRONG_SETTINGS:
        with subtests.test(texts=texts):
            with pytest.raises(ValueError, match=message) as caught:
                parse_settings(texts)
            assert "\n" not in str(caught.value)


def test_a_recipe_with_a_base_repeats_nothing_of_it(subtests: pytest.Subtests) -> None:
    for name in known_recipes():
        with subtests.test(name=name):
            own = tomllib.loads(resources.files("ensemble.recipes").joinpath(f"{name}.toml").read_text())
            base = read_recipe_file(own["base"]) if "base" in own else {}
            for table, values in own.items():
                if (
                    table not in base
                    or table == "about"
                    or values.get("kind") not in (None, base[table].get("kind"))
                ):
                    continue
                assert [key for key, value in values.items() if base[table].get(key) == value] == []


def test_a_pipe_is_refused_before_anyone_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "recipe.toml")
    with pytest.raises(RecipeError, match="a pipe or a device, not a file"):
        read_recipe_file(str(tmp_path / "recipe.toml"))
