/* svg.h - figures of the page: a frame with axes, and what is drawn into it.
 *
 * A figure is 340 units wide, so that at the width of a phone a unit is a pixel and its letters can
 * be read; it grows with the column it stands in.  Colours are classes of the page's style sheet
 * (they change with the theme), never values.  Each figure has a title and a description that say
 * what is to be seen. */
#ifndef TMB_DIAGNOSE_SVG_H
#define TMB_DIAGNOSE_SVG_H

#include "moe/diagnose/html.h"

typedef struct tmb_axis {
    double lo, hi;
    bool log; /* lo > 0 */
} tmb_axis;

typedef struct tmb_plot {
    tmb_html *h;
    double width, height;            /* of the figure, in units */
    double left, right, top, bottom; /* margins of the frame in it */
    tmb_axis x, y;
} tmb_plot;

enum { TMB_PLOT_WIDTH = 340, TMB_TICKS = 8 };

/* [lo, hi] that contains the values [n] which are finite (and positive when log): from zero when
 * they are not negative and not log, never empty. */
tmb_axis tmb_axis_of(const double *values, size_t n, bool log);
/* Round ends, and at most `most` (<= TMB_TICKS) round steps between them; returns how many. */
size_t tmb_axis_ticks(tmb_axis *s, size_t most, double ticks[TMB_TICKS]);

/* Frame with the usual margins; draws nothing yet. */
tmb_plot tmb_plot_make(tmb_html *h, double height, tmb_axis x, tmb_axis y);
/* Both texts are escaped. */
void tmb_plot_open(tmb_plot *p, const char *title, const char *desc);
void tmb_plot_close(tmb_plot *p);

/* Where a value lies, held within the frame. */
double tmb_plot_x(const tmb_plot *p, double value);
double tmb_plot_y(const tmb_plot *p, double value);

typedef enum tmb_tick_text { TMB_TICK_NUMBER, TMB_TICK_SHARE, TMB_TICK_TIMES } tmb_tick_text;

/* Ticks, their figures, grid lines of y, and the axis' name.  Round the scale first. */
void tmb_plot_axis_x(tmb_plot *p, const char *name, tmb_tick_text how, size_t most);
void tmb_plot_axis_y(tmb_plot *p, const char *name, tmb_tick_text how, size_t most);

/* A line through the points [n]; those not finite are left out.  step: each y holds until the next
 * x. */
void tmb_plot_line(tmb_plot *p, const char *class, const double *x, const double *y, size_t n,
                   bool step);
/* A box between two corners in values, with what is said on hovering (escaped; may be NULL). */
void tmb_plot_box(tmb_plot *p, const char *class, double x0, double x1, double y0, double y1,
                  const char *said);
/* A vertical line at x with a label at its top; left: the label stands left of it. */
void tmb_plot_mark(tmb_plot *p, const char *class, double x, const char *label, bool left);
void tmb_plot_dot(tmb_plot *p, const char *class, double x, double y);

#endif
