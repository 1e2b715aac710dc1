/* The inner loop of k-means on a CPU: the two best centroids of each row, and the sums of the rows.
 *
 * The score of row x and centroid c is x.c - |c|^2 / 2: larger is nearer, |x - c|^2 = |x|^2 - 2 * score.
 * Scores live in registers only. Rows are taken ROWS at a time against VECTORS * LANES centroids:
 *
 *   for each block of rows that stays in the L2 cache                  nearest_two
 *     convert it to cells                                              convert
 *     for each panel of VECTORS * LANES centroids, read from L1 or L2
 *       for each tile of ROWS rows                                     score_tile
 *         for each cell: one broadcast per row, one multiply_add per row and vector
 *         keep the best, the second and the index, lane by lane        keep_two
 *     reduce the lanes of each row                                     reduce
 *
 * A cell is 4 bytes: two neighbouring dimensions as bf16, or one as fp32. Rows, dimensions and centroids
 * are padded (rows by whatever is there, cells by zeros, centroids by a half norm of infinity), so that there
 * is a single loop and a row's result does not depend on its neighbours or its place.
 *
 * AMX would be several times faster than AVX512_BF16: it needs its own score_tile, convert and pack (tiles
 * of 16 x 32 bf16); blocks, keep_two, reduce and the error bound stay.
 */
#if defined(__AVX512BF16__) && defined(__AVX512F__)
enum { LANES = 16, DIMS_PER_CELL = 2, ROWS = 12, VECTORS = 2 }; /* 24 of 32 registers are sums */
#elif defined(__AVX512F__)
enum { LANES = 16, DIMS_PER_CELL = 1, ROWS = 12, VECTORS = 2 };
#elif defined(__AVX2__) && defined(__FMA__)
enum { LANES = 8, DIMS_PER_CELL = 1, ROWS = 6, VECTORS = 2 }; /* 12 of 16 */
#else
#error "the processor has no AVX2 and FMA"
#endif

#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = LANES * DIMS_PER_CELL, PANEL = VECTORS * LANES, BLOCK_BYTES = 512 * 1024, BLOCK_TILES = 32 };

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float unaligned_vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));

/* The best and second score so far of every LANES-th centroid, and the index of the best. */
typedef struct {
    vec best, second;
    ivec index;
} Top;

/* What a set of centroids says about errors: largest |c| and largest |c - stored c|. */
typedef struct {
    double norm, residual;
} Reach;

const char *precision(void) { return DIMS_PER_CELL == 2 ? "bf16" : "fp32"; }

static inline int64_t num_chunks(int64_t d) { return (d + CHUNK - 1) / CHUNK; }
static inline int64_t num_panels(int64_t k) { return (k + PANEL - 1) / PANEL; }

/* Lengths of the arrays that pack() fills. */
int64_t num_halves(int64_t k) { return num_panels(k) * PANEL; }
int64_t num_cells(int64_t k, int64_t d) { return num_panels(k) * PANEL * num_chunks(d) * LANES; }

static inline vec load(const float *x) { return *(const unaligned_vec *)x; }

static inline vec multiply_add(vec sum, float cell, vec cells)
{
#ifdef __AVX512BF16__
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_ps(cell), (__m512bh)cells);
#else
    return sum + cell * cells;
#endif
}

/* CHUNK dimensions to LANES cells; kept receives what the cells hold. */
static inline void to_cells(const float *x, float *cells, float *kept)
{
#ifdef __AVX512BF16__
    __m512bh pairs = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + LANES), _mm512_loadu_ps(x));
    uint16_t halves[CHUNK];
    memcpy(cells, &pairs, sizeof pairs);
    memcpy(halves, &pairs, sizeof pairs);
    for (int i = 0; i < CHUNK; i++) {
        uint32_t bits = (uint32_t)halves[i] << 16;
        memcpy(kept + i, &bits, sizeof bits);
    }
#else
    memcpy(cells, x, CHUNK * sizeof *x);
    memcpy(kept, x, CHUNK * sizeof *x);
#endif
}

/* One row of d dimensions, less the centre if there is one, to cells, a chunk every `stride` cells. Returns
 * |stored x| and |x - stored x|; squares are summed in double, where no float32 over- or underflows. */
static Reach convert(const float *x, const float *centre, int64_t d, float *cells, int64_t stride)
{
    double norm[CHUNK] = {0}, residual[CHUNK] = {0};
    for (int64_t start = 0; start < d; start += CHUNK, cells += stride) {
        float chunk[CHUNK] = {0}, kept[CHUNK];
        int64_t length = d - start < CHUNK ? d - start : CHUNK;
        memcpy(chunk, x + start, length * sizeof *x);
        for (int64_t i = 0; centre && i < length; i++)
            chunk[i] -= centre[start + i];
        to_cells(chunk, cells, kept);
        for (int i = 0; i < CHUNK; i++) {
            double value = kept[i], lost = chunk[i] - value;
            norm[i] += value * value;
            residual[i] += lost * lost;
        }
    }
    for (int i = 1; i < CHUNK; i++) {
        norm[0] += norm[i];
        residual[0] += residual[i];
    }
    return (Reach){sqrt(norm[0]), sqrt(residual[0])};
}

/* Centroids (k, d) to cells[panel][cell][PANEL] and half squared norms. Returns -1 without memory. */
int pack(const float *centroids, int64_t k, int64_t d, float *cells, float *halves, Reach *reach)
{
    int64_t width = num_chunks(d) * LANES, padded = num_panels(k) * PANEL;
    float *row = malloc(width * sizeof *row);
    if (!row)
        return -1;
    memset(cells, 0, padded * width * sizeof *cells);
    *reach = (Reach){0, 0};
    for (int64_t j = 0; j < k; j++, centroids += d) {
        double square = 0;
        for (int64_t i = 0; i < d; i++)
            square += (double)centroids[i] * centroids[i];
        halves[j] = square / 2;
        Reach stored = convert(centroids, NULL, d, row, LANES);
        reach->norm = fmax(reach->norm, sqrt(square));
        reach->residual = fmax(reach->residual, stored.residual);
        float *lane = cells + j / PANEL * width * PANEL + j % PANEL;
        for (int64_t i = 0; i < width; i++)
            lane[i * PANEL] = row[i];
    }
    for (int64_t j = k; j < padded; j++)
        halves[j] = INFINITY;
    free(row);
    return 0;
}

/* A bound on |computed score - exact score| of one row for every centroid. With b, q what is stored of x, c,
 * u = 2^-24, H = |c|^2 / 2 and the products of bf16 exact in fp32:
 *
 *   centring      x and c were rounded when the centre was taken away, each by u of its size:
 *                     2 u (|x| + |c|)^2, and as much again for what is stored of them
 *   operands      |x.c - b.q|      <= |x - b| |c| + |b| |c - q|                   (Cauchy and Schwarz)
 *   accumulation  |fl(b.q) - b.q|  <= g |b| |q|, g = m u / (1 - m u): each product passes at most
 *                                     m = d + 1 roundings, its own (none in bf16, nor by FMA) and those of
 *                                     the sums; adding the padding is exact
 *   half norm     |fl(H) - H|      <= u H
 *   subtraction                       u |result| <= u (1 + g) |b| |q| + u (1 + u) H
 *   underflow                         an operand, product or sum below FLT_MIN may become zero (bf16
 *                                     instructions always do that): at most FLT_MIN (|b| + |q| + 5) per
 *                                     dimension, with H and the result
 *
 * Beyond the range of float32 there is no bound. */
static float bound(Reach row, Reach centroids, int64_t d)
{
    const double u = FLT_EPSILON / 2, growth = (d + 1) * u / (1 - (d + 1) * u);
    double stored = centroids.norm + centroids.residual, half = centroids.norm * centroids.norm / 2;
    double product = row.norm * stored;
    double error = row.residual * centroids.norm + row.norm * centroids.residual;
    error += (growth + u * (1 + growth)) * product + u * (2 + u) * half;
    double width = row.norm + row.residual + centroids.norm;
    error += 4 * u * width * width;
    error += FLT_MIN * d * (row.norm + stored + 5);
    if (!(product + half < FLT_MAX / 4)) /* NaN too */
        return INFINITY;
    return error * (1 + 4 * u); /* the roundings of this function, and upwards to float32 */
}

static inline void keep_two(Top *top, vec score, ivec index)
{
    ivec is_better = score > top->best; /* strictly: of equals the first stays */
    vec loser = (vec)((is_better & (ivec)top->best) | (~is_better & (ivec)score));
    top->best = (vec)((is_better & (ivec)score) | (~is_better & (ivec)top->best));
    top->index = (is_better & index) | (~is_better & top->index);
    ivec is_second = loser > top->second;
    top->second = (vec)((is_second & (ivec)loser) | (~is_second & (ivec)top->second));
}

/* ROWS rows, rows[chunk][ROWS][LANES], against a panel, panel[cell][PANEL], whose first index is `first`. */
static void score_tile(const float *rows, const float *panel, const float *halves, int64_t chunks,
                       int32_t first, Top *tops)
{
    vec sums[ROWS][VECTORS] = {0};
    for (int64_t chunk = 0; chunk < chunks; chunk++, rows += ROWS * LANES) {
        for (int cell = 0; cell < LANES; cell++, panel += PANEL) {
            vec centroids[VECTORS];
            for (int v = 0; v < VECTORS; v++)
                centroids[v] = load(panel + v * LANES);
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++)
                    sums[r][v] = multiply_add(sums[r][v], rows[r * LANES + cell], centroids[v]);
        }
    }
    ivec index;
    for (int lane = 0; lane < LANES; lane++)
        index[lane] = first + lane;
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++, index += LANES) {
        vec half = load(halves + v * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++)
            keep_two(tops + r, sums[r][v] - half, index);
    }
}

/* The best of all lanes, of equals the lowest index; its losers compete with the seconds. */
static void reduce(const Top *top, int32_t *label, float *best, float *second)
{
    int winner = 0;
    for (int lane = 1; lane < LANES; lane++)
        if (top->best[lane] > top->best[winner] ||
            (top->best[lane] == top->best[winner] && top->index[lane] < top->index[winner]))
            winner = lane;
    float runner_up = -INFINITY;
    for (int lane = 0; lane < LANES; lane++) {
        float score = lane == winner ? top->second[lane] : top->best[lane];
        runner_up = score > runner_up ? score : runner_up;
    }
    *label = top->index[winner];
    *best = top->best[winner];
    *second = runner_up;
}

/* The two best centroids of n rows (n, d), of which the centre is taken away; see Kernel.nearest_two. Returns
 * -1 without memory. */
int nearest_two(const float *rows, int64_t n, int64_t d, const float *centre, const float *cells, const float *halves, int64_t k,
                const Reach *reach, int32_t *labels, float *best, float *second, float *error)
{
    int64_t chunks = num_chunks(d), tile_cells = chunks * ROWS * LANES;
    int64_t tiles = BLOCK_BYTES / (tile_cells * (int64_t)sizeof(float));
    tiles = tiles < 1 ? 1 : tiles > BLOCK_TILES ? BLOCK_TILES : tiles;
    float *block = aligned_alloc(64, tiles * tile_cells * sizeof *block);
    Top *tops = aligned_alloc(64, tiles * ROWS * sizeof *tops);
    int failed = !block || !tops ? -1 : 0;
    if (!failed)
        memset(block, 0, tiles * tile_cells * sizeof *block); /* rows beyond n only need to hold something */
    for (int64_t start = 0; start < n && !failed; start += tiles * ROWS) {
        int64_t count = n - start < tiles * ROWS ? n - start : tiles * ROWS;
        for (int64_t r = 0; r < count; r++) {
            float *place = block + r / ROWS * tile_cells + r % ROWS * LANES;
            error[start + r] = bound(convert(rows + (start + r) * d, centre, d, place, ROWS * LANES), *reach, d);
            tops[r].index = (ivec){0};
            tops[r].best = tops[r].second = (vec){0} - INFINITY;
        }
        for (int64_t panel = 0; panel < num_panels(k); panel++)
            for (int64_t tile = 0; tile * ROWS < count; tile++)
                score_tile(block + tile * tile_cells, cells + panel * chunks * LANES * PANEL,
                           halves + panel * PANEL, chunks, panel * PANEL, tops + tile * ROWS);
        for (int64_t r = 0; r < count; r++)
            reduce(tops + r, labels + start + r, best + start + r, second + start + r);
    }
    free(block);
    free(tops);
    return failed;
}

/* The squared norm of each of n rows (n, d). */
void square(const float *rows, int64_t n, int64_t d, double *norms)
{
    for (int64_t i = 0; i < n; i++, rows += d) {
        double lanes[16] = {0}, norm = 0;
        for (int64_t j = 0; j + 16 <= d; j += 16)
            for (int lane = 0; lane < 16; lane++)
                lanes[lane] += (double)rows[j + lane] * rows[j + lane];
        for (int64_t j = d / 16 * 16; j < d; j++)
            norm += (double)rows[j] * rows[j];
        for (int lane = 0; lane < 16; lane++)
            norm += lanes[lane];
        norms[i] = norm;
    }
}

/* sums[labels[i]] += sign * rows[i] in the columns from `first` up to `last`; labels below zero are skipped.
 * Adding and subtracting `rounder` in double rounds a value to a multiple of rounder's last bit. */
void add(double *sums, int64_t d, const float *rows, int64_t n, const int64_t *labels, double sign,
         double rounder, int64_t first, int64_t last)
{
    for (int64_t i = 0; i < n; i++) {
        if (labels[i] < 0)
            continue;
        double *restrict sum = sums + labels[i] * d;
        const float *restrict row = rows + i * d;
        for (int64_t j = first; j < last; j++)
            sum[j] += sign * ((row[j] + rounder) - rounder);
    }
}
