"""Maps a collection of images into one canonical space.

>>> from asic_flow.alignment import Alignment  # doctest: +SKIP
>>> collection, matches = load_collection(Path("collection"))  # doctest: +SKIP
>>> alignment = Alignment.fit(collection, matches)  # doctest: +SKIP
>>> alignment.transfer(points_image, source=0, target=3).points_image  # doctest: +SKIP
"""
