/* topk.c - the k-th largest by quickselect, then everything above it. */
#include "config.h"
#include "kernels/cpu/topk.h"

#include <string.h>

static void swap(float *a, float *b)
{
    float t = *a;
    *a = *b;
    *b = t;
}

/* The middle one of the first, the middle and the last. */
static float pivot_of(const float *x, size_t low, size_t high)
{
    float a = x[low], b = x[low + (high - low) / 2], c = x[high];
    if (a > b) swap(&a, &b);
    if (b > c) b = c;
    return a > b ? a : b;
}

/* The k-th largest of x [n], 1 <= k <= n; x is mixed up. */
static float kth_largest(float *x, size_t n, size_t k)
{
    size_t low = 0, high = n - 1, want = k - 1;
    while (low < high) {
        float pivot = pivot_of(x, low, high);
        size_t i = low, j = high;
        for (;;) {
            while (x[i] > pivot)
                i++;
            while (x[j] < pivot)
                j--;
            if (i >= j) break;
            swap(&x[i++], &x[j--]);
        }
        /* low … j are at least the pivot, j + 1 … high at most */
        if (i == j && x[i] < pivot) j--;
        if (want <= j)
            high = j;
        else
            low = j + 1;
    }
    return x[want];
}

bool tmb_topk_bits(const float *x, size_t n, size_t k, uint64_t *bits, float *work)
{
    memset(bits, 0, (n + 63) / 64 * sizeof *bits);
    if (k >= n) {
        for (size_t i = 0; i < n; i++)
            tmb_bit_set(bits, i);
        return false;
    }
    if (!k) return false;
    memcpy(work, x, n * sizeof *work);
    float least = kth_largest(work, n, k);
    size_t level = k, left = 0;
    for (size_t i = 0; i < n; i++)
        level -= x[i] > least;
    for (size_t i = 0; i < n; i++) {
        if (x[i] > least || (x[i] == least && level)) tmb_bit_set(bits, i);
        if (x[i] != least) continue;
        if (level)
            level--;
        else
            left++;
    }
    return left > 0;
}
