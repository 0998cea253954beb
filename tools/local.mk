dist_noinst_SCRIPTS +=
