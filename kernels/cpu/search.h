/* search.h - the searches of NVFP4 block scales, sixteen blocks at a time: a part of vector.h, in
 * whose words it is written. */

/* E2M1 under sixteen scales, one a lane: the values of codes 1 to 7; what is rounded to code k lies
 * above over[k - 1].  All exact: a scale has four bits, a value or a threshold three. */
typedef struct search_grid {
    v16 value[7], over[7];
} search_grid;

static inline search_grid grid_of(v16 c)
{
    return (search_grid){
        .value = {v_mul(c, v_set(0.5f)), c, v_mul(c, v_set(1.5f)), v_mul(c, v_set(2.0f)),
                  v_mul(c, v_set(3.0f)), v_mul(c, v_set(4.0f)), v_mul(c, v_set(6.0f))},
        .over = {v_mul(c, v_set(0.25f)), v_mul(c, v_set(0.75f)), v_mul(c, v_set(1.25f)),
                 v_mul(c, v_set(1.75f)), v_mul(c, v_set(2.5f)), v_mul(c, v_set(3.5f)),
                 v_mul(c, v_set(5.0f))},
    };
}

static inline v16 square_error(const search_grid *g, v16 a)
{
    v16 v = v_set(0.0f);
    for (int k = 0; k < 7; k++)
        v = v_select(v_less(g->over[k], a), g->value[k], v);
    v16 d = v_sub(a, v);
    return v_mul(d, d);
}

static inline v16 fold8(const v16 *e)
{
    v16 f[4];
    for (int i = 0; i < 4; i++)
        f[i] = v_add(e[i], e[i + 4]);
    return v_add(v_add(f[0], f[2]), v_add(f[1], f[3]));
}

/* The error of sixteen blocks, one a lane, each under its own scale c; magnitudes a [16][lanes].
 * *settled, unless NULL, is the same sum over only those elements that are at most c / 2.  Where
 * eight elements alone are above `least` in every lane that is on, so is the whole: then both are
 * of those eight, and no scale wins.
 *
 * No division is needed to know the code.  A threshold t of E2M1 has three bits and c has four, so
 * t * c is exact; and a float a other than t * c is at least 2^-24 of it away, more than half the
 * spacing of floats next to t, so that a / c does not round to t: comparing a with t * c tells on
 * which side of t the rounded quotient lies.  On t itself both neighbours give the same error. */
static inline v16 search_error(const v16 *a, v16 c, m16 on, v16 least, v16 *settled)
{
    const search_grid g = grid_of(c);
    v16 e[8], z[8], none = v_set(0.0f);
    for (int i = 0; i < 8; i++) {
        e[i] = square_error(&g, a[i]);
        if (settled) z[i] = v_select(v_less(g.value[0], a[i]), none, e[i]);
    }
    v16 part = fold8(e);
    if (!m_any(m_and(on, v_less_equal(part, least)))) {
        if (settled) *settled = fold8(z);
        return part;
    }
    for (int i = 0; i < 8; i++) {
        v16 more = square_error(&g, a[i + 8]);
        e[i] = v_add(e[i], more);
        if (settled) z[i] = v_add(z[i], v_select(v_less(g.value[0], a[i + 8]), none, more));
    }
    if (settled) *settled = fold8(z);
    return fold8(e);
}

/* Sixteen blocks as lanes: a[i] the magnitudes of x / ws2, sign[i] (unless NULL) their sign bits;
 * returns the largest magnitude. */
static inline v16 take_blocks(v16 *a, i16 *sign, const float *x, float ws2)
{
    float y[16], columns[16][LANES];
    for (int b = 0; b < LANES; b++) {
        v_store(y, v_div(v_load(x + b * 16), v_set(ws2)));
        for (int i = 0; i < 16; i++)
            columns[i][b] = y[i];
    }
    v16 top = v_set(0.0f);
    for (int i = 0; i < 16; i++) {
        i16 bits = i_of(v_load(columns[i]));
        a[i] = v_of(i_and(bits, i_set(0x7fffffff)));
        top = v_max(a[i], top);
        if (sign) sign[i] = i_and(bits, i_set((int)0x80000000u));
    }
    return top;
}

/* The code that maps the largest magnitude to 6, or the nearest to it that is > 0. */
static inline i16 first_scale(v16 top)
{
    return i_max(i_min(e4m3_of(v_div(top, v_set(6.0f))), i_set(0x7e)), i_set(1));
}

/* A block of zeros, not of quotients that are zeros, has no best scale: it gets 1. */
static inline void give_scales(uint8_t *codes, i16 best, v16 top, const float *x)
{
    i_store8(codes, best);
    if (!m_any(v_less_equal(top, v_set(0.0f)))) return;
    for (int b = 0; b < LANES; b++)
        if (amax_of(x + b * 16, 16) == 0.0f) codes[b] = 0x38;
}

/* Sixteen blocks.  From the scale that maps the largest magnitude to 6 the candidates are walked
 * up, then down.  A lane leaves the walk when no further scale can win, which is certain because
 * sums of floats >= 0 in a fixed order never shrink when a term grows:
 *   up:   what is at most c / 2 lies between 0 and c' / 2 under all larger c', and comes no nearer
 *         to either: its term stays, or grows with c' / 2;
 *   down: the largest magnitude above 6c stays cut to 6c', and 6c' only shrinks. */
static void search16(uint8_t *codes, const float *x, float ws2)
{
    v16 a[16], settled, top = take_blocks(a, NULL, x, ws2);
    i16 best = i_set(0x7e), start = first_scale(top), code = start;
    v16 least = v_set(0x1.fffffep127f);
    const m16 some = v_less(v_set(0.0f), top); /* zeros lose nothing under the largest scale */
    for (m16 on = some; m_any(on); on = m_and(on, i_less(code, i_set(0x7f)))) {
        v16 error = search_error(a, e4m3_value(code), on, least, &settled);
        m16 better = m_and(on, v_less_equal(error, least));
        least = v_select(better, error, least);
        best = i_select(better, code, best);
        on = m_and_not(v_less(least, settled), on);
        code = i_add(code, i_set(1));
    }
    code = i_sub(start, i_set(1));
    for (m16 on = m_and(some, i_less(i_set(0), code));; on = m_and(on, i_less(i_set(0), code))) {
        v16 c = e4m3_value(i_max(code, i_set(1)));
        v16 cut = v_sub(top, v_mul(c, v_set(6.0f)));
        m16 lost = m_and(v_less_equal(v_set(0.0f), cut), v_less_equal(least, v_mul(cut, cut)));
        on = m_and_not(lost, on);
        if (!m_any(on)) break;
        v16 error = search_error(a, c, on, least, NULL);
        m16 better = m_and(on, v_less(error, least));
        least = v_select(better, error, least);
        best = i_select(better, code, best);
        code = i_sub(code, i_set(1));
    }
    give_scales(codes, best, top, x);
}

static void search_nvfp4(uint8_t *codes, const float *x, float ws2, size_t blocks)
{
    size_t b = 0;
    for (; b + LANES <= blocks; b += LANES)
        search16(codes + b, x + b * 16, ws2);
    if (b == blocks) return;
    float rest[LANES * 16] = {0};
    uint8_t found[LANES];
    memcpy(rest, x + b * 16, (blocks - b) * 16 * sizeof *rest);
    search16(found, rest, ws2);
    memcpy(codes + b, found, blocks - b);
}

/* ------------------------------------------------------------------ weighted by second moments */

/* d' H d of sixteen blocks, each under its own scale c.  As search_error(), but signs count here,
 * so what lies on a threshold goes to the even code as rounding would have it.  h: the group's
 * rows. *lost, unless NULL, is what the floors say of the elements whose code is 0: the root of an
 * error that no larger scale goes below; fa[i] are floors times magnitudes. */
static inline v16 weighted_error(const v16 *a, const i16 *sign, v16 c, const float *h, bool full,
                                 const v16 *fa, v16 *lost)
{
    const search_grid g = grid_of(c);
    v16 d[16], none = v_set(0.0f), most = none;
    for (int i = 0; i < 16; i++) {
        m16 some = v_less(g.over[0], a[i]);
        v16 v = v_select(some, g.value[0], none);
        for (int k = 1; k < 7; k++)
            v = v_select(k % 2 ? v_less_equal(g.over[k], a[i]) : v_less(g.over[k], a[i]),
                         g.value[k], v);
        d[i] = v_of(i_xor(i_of(v_sub(a[i], v)), sign[i]));
        if (lost) most = v_max(most, v_select(some, none, fa[i]));
    }
    if (lost) *lost = most;
    for (int i = 0; i < 16; i++) {
        v16 sum = v_mul(v_load(h), d[i]);
        h += LANES;
        for (int j = i + 1; full && j < 16; j++, h += LANES)
            sum = v_add(sum, v_mul(v_load(h), d[j]));
        d[i] = v_mul(d[i], sum); /* d[0] … d[i] are used no more */
    }
    for (int n = 8; n; n /= 2)
        for (int i = 0; i < n; i++)
            d[i] = v_add(d[i], d[i + n]);
    return d[0];
}

/* The walk of search16().  Floors hold for the exact d' H d; what is computed differs from it by
 * rounding, of which the sum over i, j of |h(i, j) d(i) d(j)| takes at most 20 * 2^-24; and as H is
 * semidefinite and |d(i)| <= a(i), that sum is at most 16 times that of h(i, i) a(i)^2.  So a lane
 * leaves the walk when its floor, less 2^-14 of itself, is above the least error by more than 2^-14
 * of the latter sum: then no further scale can have a computed error that wins. */
static inline void weighted16(uint8_t *codes, const float *x, float ws2, const float *h, bool full)
{
    i16 sign[16];
    v16 a[16], f[16], fa[16], lost, top = take_blocks(a, sign, x, ws2), slack = v_set(0.0f);
    for (int i = 0, row = 0; i < 16; row += full ? 16 - i : 1, i++) {
        f[i] = v_load(h + (TMB_MOMENT_ROWS(full) - 16 + i) * LANES);
        fa[i] = v_mul(f[i], a[i]);
        slack = v_add(slack, v_mul(v_mul(v_load(h + row * LANES), a[i]), a[i]));
    }
    slack = v_mul(slack, v_set(0x1p-14f));
    const v16 sure = v_set(1 - 0x1p-14f);
    i16 best = i_set(0x7e), start = first_scale(top), code = start;
    v16 least = v_set(0x1.fffffep127f);
    const m16 some = v_less(v_set(0.0f), top); /* zeros lose nothing under the largest scale */
    for (m16 on = some; m_any(on); on = m_and(on, i_less(code, i_set(0x7f)))) {
        v16 error = weighted_error(a, sign, e4m3_value(code), h, full, fa, &lost);
        m16 better = m_and(on, v_less_equal(error, least));
        least = v_select(better, error, least);
        best = i_select(better, code, best);
        on = m_and_not(v_less(v_add(least, slack), v_mul(v_mul(lost, lost), sure)), on);
        code = i_add(code, i_set(1));
    }
    code = i_sub(start, i_set(1));
    for (m16 on = m_and(some, i_less(i_set(0), code));; on = m_and(on, i_less(i_set(0), code))) {
        v16 c = e4m3_value(i_max(code, i_set(1))), six = v_mul(c, v_set(6.0f));
        lost = v_set(0.0f);
        for (int i = 0; i < 16; i++) /* what is cut to 6c stays cut, and more of it */
            lost = v_max(lost, v_mul(v_sub(a[i], six), f[i]));
        on = m_and_not(v_less(v_add(least, slack), v_mul(v_mul(lost, lost), sure)), on);
        if (!m_any(on)) break;
        v16 error = weighted_error(a, sign, c, h, full, fa, NULL);
        m16 better = m_and(on, v_less(error, least));
        least = v_select(better, error, least);
        best = i_select(better, code, best);
        code = i_sub(code, i_set(1));
    }
    give_scales(codes, best, top, x);
}

static void search_nvfp4_weighted(uint8_t *codes, const float *x, float ws2,
                                  const tmb_moments *moments, size_t blocks)
{
    const float *h = moments->lanes;
    float rest[LANES * 16] = {0};
    uint8_t found[LANES];
    for (size_t b = 0; b < blocks; b += LANES, h += TMB_MOMENT_ROWS(moments->full) * LANES) {
        bool whole = blocks - b >= LANES;
        const float *from = whole ? x + b * 16 : rest;
        uint8_t *to = whole ? codes + b : found;
        if (!whole) memcpy(rest, x + b * 16, (blocks - b) * 16 * sizeof *rest);
        if (moments->full)
            weighted16(to, from, ws2, h, true);
        else
            weighted16(to, from, ws2, h, false);
        if (!whole) memcpy(codes + b, found, blocks - b);
    }
}
