# Shipped recipes, found by name: tombac plan CKPT --recipe nvfp4-experts
dist_pkgdata_DATA +=
