/* progress.c - a long job's progress on standard error. */
#include "config.h"
#include "src/progress.h"

#include "kernels/base/clock.h"
#include "moe/io/json.h"
#include "src/stop.h"
#include "src/text.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static double share(const tmb_progress *p)
{
    if (p->total_bytes) return (double)p->done_bytes / (double)p->total_bytes;
    return p->total_units ? (double)p->done_units / (double)p->total_units : 0;
}

/* Bytes a second since the phase began, 0 while it is too early to tell. */
static double rate(const tmb_meter *m, double now)
{
    double seconds = now - m->began;
    if (seconds < 0.5 || m->last.done_bytes <= m->first_bytes) return 0;
    return (double)(m->last.done_bytes - m->first_bytes) / seconds;
}

/* Seconds left, -1 while it is too early to tell. */
static double left(const tmb_meter *m, double now)
{
    double r = rate(m, now);
    if (r <= 0 || m->last.total_bytes < m->last.done_bytes) return -1;
    return (double)(m->last.total_bytes - m->last.done_bytes) / r;
}

void tmb_meter_line(const tmb_meter *m, double now, int columns, char *line, size_t size)
{
    const tmb_progress *p = &m->last;
    char done[TMB_HUMAN_BYTES], total[TMB_HUMAN_BYTES], eta[TMB_HUMAN_BYTES] = "-:--";
    char speed[TMB_HUMAN_BYTES];
    char facts[160];
    double r = rate(m, now), l = left(m, now);
    if (l >= 0) tmb_human_seconds(eta, l);
    const char *(*human)(char[TMB_HUMAN_BYTES], uint64_t) =
        p->counted ? tmb_human_count : tmb_human_bytes;
    snprintf(facts, sizeof facts, "%3.0f %%  %s of %s%s%s  %s/s  %u of %u %s  ETA %s",
             100 * share(p), human(done, p->done_bytes), human(total, p->total_bytes),
             p->counted ? " " : "", p->counted ? p->counted : "", human(speed, (uint64_t)r),
             p->done_units, p->total_units, p->units ? p->units : "units", eta);
    int used = (int)(strlen(p->phase) + 1 + strlen(facts));
    int width = columns - used - 3;
    if (m->mode != TMB_METER_BAR || width < 8) {
        snprintf(line, size, "%s %s", p->phase, facts);
        if (m->mode == TMB_METER_BAR && columns > 0) tmb_shorten(line, (size_t)columns);
        return;
    }
    if (width > 30) width = 30;
    int full = (int)(share(p) * width + 0.5);
    char bar[40];
    for (int i = 0; i < width; i++)
        bar[i] = i < full ? '#' : '.';
    bar[width] = 0;
    snprintf(line, size, "%s [%s] %s", p->phase, bar, facts);
    int room = columns - (int)tmb_columns(line) - 2;
    if (p->current && room >= 16) {
        char name[TMB_ERR_BYTES];
        tmb_safe(name, sizeof name, p->current);
        tmb_shorten(name, (size_t)room);
        size_t n = strlen(line);
        snprintf(line + n, size - n, "  %s", name);
    }
}

static void print_json(const tmb_meter *m, const char *event, double now)
{
    const tmb_progress *p = &m->last;
    tmb_json *o = tmb_json_new_object();
    if (!o) return;
    double l = left(m, now);
    bool fine =
        tmb_json_set(o, "event", tmb_json_new_string(event)) &&
        tmb_json_set(o, "phase", tmb_json_new_string(p->phase)) &&
        (!p->counted || tmb_json_set(o, "counted", tmb_json_new_string(p->counted))) &&
        tmb_json_set(o, "done_bytes", tmb_json_new_integer((int64_t)p->done_bytes)) &&
        tmb_json_set(o, "total_bytes", tmb_json_new_integer((int64_t)p->total_bytes)) &&
        tmb_json_set(o, "done_units", tmb_json_new_integer(p->done_units)) &&
        tmb_json_set(o, "total_units", tmb_json_new_integer(p->total_units)) &&
        tmb_json_set(o, "bytes_per_second", tmb_json_new_number(rate(m, now))) &&
        tmb_json_set(o, "eta_seconds", l < 0 ? tmb_json_new_null() : tmb_json_new_number(l)) &&
        (!p->current || tmb_json_set(o, "current", tmb_json_new_string(p->current)));
    char *text = fine ? tmb_json_dump(o, 0) : NULL;
    if (text) fprintf(m->to, "%.*s\n", (int)strcspn(text, "\n"), text);
    free(text);
    tmb_json_free(o);
    fflush(m->to);
}

static void print_bar(tmb_meter *m, double now)
{
    struct winsize w = {0};
    int columns = !ioctl(fileno(m->to), TIOCGWINSZ, &w) && w.ws_col > 20 ? w.ws_col : 80;
    char line[1024];
    tmb_meter_line(m, now, columns - 1, line, sizeof line);
    fprintf(m->to, "\r%s\033[K", line);
    fflush(m->to);
    m->drawn = true;
}

static void on_progress(void *ctx, const tmb_progress *p)
{
    tmb_meter *m = ctx;
    if (m->mode == TMB_METER_NONE) return;
    double now = tmb_seconds();
    bool begins = !m->phase || strcmp(m->phase, p->phase) != 0;
    if (begins) {
        if (m->phase && m->mode == TMB_METER_JSON) print_json(m, "end", now);
        m->phase = p->phase;
        m->began = m->shown = now;
        m->first_bytes = p->done_bytes;
    }
    m->last = *p;
    double wait = m->mode == TMB_METER_BAR ? 0.1 : m->mode == TMB_METER_JSON ? 1 : 30;
    if (begins && m->mode == TMB_METER_JSON) print_json(m, "start", now);
    if (now - m->shown < wait) {
        m->last.current = NULL; /* borrowed for this call only */
        return;
    }
    m->shown = now;
    if (m->mode == TMB_METER_BAR) {
        print_bar(m, now);
    } else if (m->mode == TMB_METER_JSON) {
        print_json(m, "progress", now);
    } else {
        char line[1024];
        tmb_meter_line(m, now, 0, line, sizeof line);
        fprintf(m->to, "%s\n", line);
        fflush(m->to);
    }
    m->last.current = NULL;
}

void tmb_meter_open(tmb_meter *m, const tmb_common *common)
{
    memset(m, 0, sizeof *m);
    m->to = stderr;
    const char *how = common->progress;
    const char *term = getenv("TERM");
    bool tty = isatty(fileno(stderr)) && term && strcmp(term, "dumb") != 0;
    if (common->quiet || !strcmp(how, "none"))
        m->mode = TMB_METER_NONE;
    else if (!strcmp(how, "json"))
        m->mode = TMB_METER_JSON;
    else
        m->mode = tty && !strcmp(how, "auto") ? TMB_METER_BAR : TMB_METER_PLAIN;
}

tmb_watch tmb_meter_watch(tmb_meter *m)
{
    return (tmb_watch){.progress = on_progress, .ctx = m, .stop = tmb_stop_flag()};
}

void tmb_meter_close(tmb_meter *m)
{
    if (m->mode == TMB_METER_JSON && m->phase) print_json(m, "end", tmb_seconds());
    if (m->drawn) {
        fputs("\r\033[K", m->to);
        fflush(m->to);
    }
    m->mode = TMB_METER_NONE;
}
