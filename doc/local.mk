dist_man_MANS += doc/tombac.1
pages = README.md CONTRIBUTING.md NEWS.md SECURITY.md LICENSE \
	doc/architecture.md doc/diagnose.md doc/engines.md doc/extending.md doc/formats.md doc/forward.md      \
	doc/kernel-notes.md doc/numbers.md doc/quality.md doc/recipes.md doc/speed.md          \
	doc/statistics.md doc/tokens.md doc/trust.md
EXTRA_DIST += $(pages) doc/diagnose.png
