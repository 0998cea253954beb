EXTRA_DIST += doc/recipes.md
