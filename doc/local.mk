dist_man_MANS += doc/tombac.1
pages = README.md CONTRIBUTING.md NEWS.md SECURITY.md LICENSE \
	doc/architecture.md doc/engines.md doc/extending.md doc/formats.md doc/forward.md doc/kernel-notes.md doc/recipes.md \
	doc/quality.md \
	doc/statistics.md \
	doc/speed.md doc/tokens.md
pages += doc/numbers.md
pages += doc/trust.md
EXTRA_DIST += $(pages)
