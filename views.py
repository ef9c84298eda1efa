"""Draw what a recipe's network sees of galaxies: `galaxy_zoo views` from a checkout.

python views.py shards sheet.png --recipe quick --count 6
python views.py shards gallery.png --recipe ng_cnn --gallery      # what grey, crop and size do to an image
"""

from evaluation.views_command import views as main

if __name__ == "__main__":
    main()
