# Shipped recipes, found by name: tombac plan CKPT --recipe nvfp4-experts
dist_pkgdata_DATA +=                \
	recipes/fp8-all.ini         \
	recipes/fp8-block.ini       \
	recipes/int4-experts.ini    \
	recipes/mxfp4-experts.ini   \
	recipes/nvfp4-all.ini       \
	recipes/nvfp4-experts-only.ini \
	recipes/nvfp4-experts.ini   \
	recipes/nvfp4-weight-only.ini
