/* What the recurrences share: their arguments, where documents start, and vectors of floats.
 *
 * Tokens are [B, T, H, N] in fp32, contiguous. Each document of each head is an item of work, and each sum has one
 * order: the number of threads changes no bit of any result.
 */
#include <stdint.h>
#include <string.h>

#define N 64
#define CHUNK 16
#define LINE 16 /* floats of a cache line */

#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif

#define ALIGNED __attribute__((aligned(64)))
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float vec4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef float vec8 __attribute__((vector_size(32), aligned(4), may_alias));

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(x, y, a, b, c, d) __builtin_shufflevector(x, y, a, b, c, d)
#else
typedef int32_t indices __attribute__((vector_size(16)));
#define SHUFFLE(x, y, a, b, c, d) __builtin_shuffle(x, y, (indices){a, b, c, d})
#endif

/* Every pass of every recurrence takes these; what a pass does not use may be NULL. */
typedef struct {
    int64_t B, T, H, threads;
    const float *r, *decay, *k, *v, *a, *b;
    const float *u;        /* [H, N] */
    const float *initial;  /* NULL: nothing has been read yet */
    const uint8_t *resets; /* [B, chunks], not 0 where a document starts with the chunk; NULL: nowhere */
    float *y, *final;
    float *sa, *states; /* kept for the backward pass; NULL: there will be none */
    const float *dy;
    const float *dfinal; /* NULL: zeros */
    float *dr, *dlog_w, *dk, *dv, *da, *db;
    float *du;       /* [B, chunks, H, N], parts of a sum */
    float *dinitial; /* NULL: not wanted */
} Arguments;

static int64_t chunk_count(const Arguments *x) { return (x->T + CHUNK - 1) / CHUNK; }

/* Where a token of a head starts in [B, T, H, N]. */
static int64_t token(const Arguments *x, int64_t n, int64_t t, int64_t h) {
    return ((n * x->T + t) * x->H + h) * N;
}

static int starts(const Arguments *x, int64_t n, int64_t chunk) {
    return x->resets && x->resets[n * chunk_count(x) + chunk];
}

static inline vec load(const float *p) { return *(const vec *)p; }
static inline vec4 load4(const float *p) { return *(const vec4 *)p; }
static inline void store(float *p, vec x) { *(vec *)p = x; }
static inline void store4(float *p, vec4 x) { *(vec4 *)p = x; }

static inline vec4 fold(vec x) {
#if LANES == 16
    vec8 y = (vec8){x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]} +
             (vec8){x[8], x[9], x[10], x[11], x[12], x[13], x[14], x[15]};
#else
    vec8 y = x;
#endif
    return (vec4){y[0], y[1], y[2], y[3]} + (vec4){y[4], y[5], y[6], y[7]};
}

/* The sums of the lanes of four vectors. */
static inline vec4 sums(vec a, vec b, vec c, vec d) {
    vec4 a4 = fold(a), b4 = fold(b), c4 = fold(c), d4 = fold(d);
    vec4 ab = SHUFFLE(a4, b4, 0, 4, 1, 5) + SHUFFLE(a4, b4, 2, 6, 3, 7);
    vec4 cd = SHUFFLE(c4, d4, 0, 4, 1, 5) + SHUFFLE(c4, d4, 2, 6, 3, 7);
    return SHUFFLE(ab, cd, 0, 1, 4, 5) + SHUFFLE(ab, cd, 2, 3, 6, 7);
}

/* to[j][i] = from[i][j] for i < N and j < columns; both have rows of N floats. */
static inline void transpose(float *to, const float *from, int columns) {
    for (int i = 0; i < N; i += 4)
        for (int j = 0; j < columns; j += 4) {
            const float *p = from + i * N + j;
            float *q = to + j * N + i;
            vec4 a = load4(p), b = load4(p + N), c = load4(p + 2 * N), d = load4(p + 3 * N);
            vec4 ab = SHUFFLE(a, b, 0, 4, 1, 5), cd = SHUFFLE(c, d, 0, 4, 1, 5);
            store4(q, SHUFFLE(ab, cd, 0, 1, 4, 5));
            store4(q + N, SHUFFLE(ab, cd, 2, 3, 6, 7));
            ab = SHUFFLE(a, b, 2, 6, 3, 7), cd = SHUFFLE(c, d, 2, 6, 3, 7);
            store4(q + 2 * N, SHUFFLE(ab, cd, 0, 1, 4, 5));
            store4(q + 3 * N, SHUFFLE(ab, cd, 2, 3, 6, 7));
        }
}
