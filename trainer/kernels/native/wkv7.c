/* The RWKV-7 recurrence in fp32 for heads of 64 channels, forward and backward.
 *
 *     S_t = S_{t-1} diag(decay_t) + (S_{t-1} a_t) b_t^T + v_t k_t^T,      y_t = S_t r_t
 *
 * States are [B, H, N (v), N (k)]. For the backward pass are kept: sa, S_{t-1} a_t [B, T, H, N], and states, before
 * each chunk [B, H, chunks, N (k), N (v)].
 *
 * Forward, the lanes of a vector are rows of S (S is kept transposed), so that S a and S r are sums of vectors.
 * Backward, they are columns, so that the gradients of r, decay, k, a and b are. The backward pass starts every
 * chunk from the state that was kept there and computes the states inside it once more; dividing the decay out
 * again would lose digits.
 */
#include "wkv.h"

#ifdef __AVX512F__
#define VECTORS 4
#else
#define VECTORS 2
#endif
#define ROWS (VECTORS * LANES) /* that the forward pass keeps in registers */
#define BLOCK 16               /* rows whose states of a chunk fit into the nearest caches */

/* One token for the rows from `row` on. S is transposed. `at` is where the token starts, `next` where the one
 * after it does: sa comes in as S a of this token and goes out as that of the next, in the same pass over S. */
static inline void step(const Arguments *x, float (*S)[N], float *sa, int row, int64_t at, int64_t next) {
    const float *r = x->r + at, *decay = x->decay + at, *k = x->k + at, *b = x->b + at, *a = x->a + next;
    vec sa_now[VECTORS], sa_next[VECTORS], v[VECTORS], y[VECTORS];
    for (int i = 0; i < VECTORS; i++) {
        sa_now[i] = load(sa + row + i * LANES);
        v[i] = load(x->v + at + row + i * LANES);
        y[i] = sa_next[i] = (vec){0};
    }
    for (int j = 0; j < N; j++)
        for (int i = 0; i < VECTORS; i++) {
            float *p = &S[j][row + i * LANES];
            vec s = load(p) * decay[j] + (sa_now[i] * b[j] + v[i] * k[j]);
            store(p, s);
            y[i] += s * r[j];
            sa_next[i] += s * a[j];
        }
    for (int i = 0; i < VECTORS; i++) {
        store(x->y + at + row + i * LANES, y[i]);
        store(sa + row + i * LANES, sa_next[i]);
    }
}

/* Tokens of a head lie too far apart for the machine to see the next one coming. */
static inline void fetch_forward(const Arguments *x, int64_t at) {
    for (int j = 0; j < N; j += LINE) {
        const int64_t p = at + j;
        __builtin_prefetch(x->r + p), __builtin_prefetch(x->decay + p), __builtin_prefetch(x->k + p);
        __builtin_prefetch(x->v + p), __builtin_prefetch(x->a + p), __builtin_prefetch(x->b + p);
        __builtin_prefetch(x->y + p, 1);
    }
}

/* The document that starts with a chunk. */
static void forward_document(const Arguments *x, int64_t n, int64_t h, int64_t chunk) {
    const int64_t chunks = chunk_count(x), head = n * x->H + h;
    float S[N][N] ALIGNED = {{0}}, sa[N] ALIGNED = {0};
    int64_t t = chunk * CHUNK;
    if (x->initial && !starts(x, n, chunk)) {
        const float *a = x->a + token(x, n, t, h);
        transpose(S[0], x->initial + head * N * N, N);
        for (int j = 0; j < N; j++)
            for (int i = 0; i < N; i++) sa[i] += S[j][i] * a[j];
    }
    do {
        const int64_t at = token(x, n, t, h), next = t + 1 < x->T ? token(x, n, t + 1, h) : at;
        fetch_forward(x, next);
        if (x->states && t % CHUNK == 0)
            memcpy(x->states + (head * chunks + t / CHUNK) * N * N, S, sizeof S);
        if (x->sa) memcpy(x->sa + at, sa, sizeof sa);
        for (int row = 0; row < N; row += ROWS) step(x, S, sa, row, at, next);
        t++;
    } while (t < x->T && !(t % CHUNK == 0 && starts(x, n, t / CHUNK)));
    if (t == x->T) transpose(x->final + head * N * N, S[0], N);
}

void wkv7_forward(const Arguments *x) {
    const int64_t chunks = chunk_count(x);
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads((int)x->threads)
    for (int64_t n = 0; n < x->B; n++)
        for (int64_t chunk = 0; chunk < chunks; chunk++)
            for (int64_t h = 0; h < x->H; h++)
                if (chunk == 0 || starts(x, n, chunk)) forward_document(x, n, h, chunk);
}

/* What the backward pass works on: a chunk of a head, packed, its states for one block of rows, and dS for all. */
typedef struct {
    float r[CHUNK][N], decay[CHUNK][N], k[CHUNK][N], a[CHUNK][N], b[CHUNK][N];
    float dr[CHUNK][N], ddecay[CHUNK][N], dk[CHUNK][N], da[CHUNK][N], db[CHUNK][N];
    float states[CHUNK + 1][BLOCK][N]; /* before the first token, then after each one */
    float dS[N][N];
} Work;

static void pack(Work *w, const Arguments *x, int64_t at, int tokens) {
    for (int t = 0; t < tokens; t++, at += x->H * N) {
        memcpy(w->r[t], x->r + at, sizeof w->r[t]);
        memcpy(w->decay[t], x->decay + at, sizeof w->decay[t]);
        memcpy(w->k[t], x->k + at, sizeof w->k[t]);
        memcpy(w->a[t], x->a + at, sizeof w->a[t]);
        memcpy(w->b[t], x->b + at, sizeof w->b[t]);
    }
    memset(w->dr, 0, sizeof w->dr), memset(w->ddecay, 0, sizeof w->ddecay), memset(w->dk, 0, sizeof w->dk);
    memset(w->da, 0, sizeof w->da), memset(w->db, 0, sizeof w->db);
}

static void unpack(const Work *w, const Arguments *x, int64_t at, int tokens) {
    for (int t = 0; t < tokens; t++, at += x->H * N) {
        memcpy(x->dr + at, w->dr[t], sizeof w->dr[t]);
        memcpy(x->dk + at, w->dk[t], sizeof w->dk[t]);
        memcpy(x->da + at, w->da[t], sizeof w->da[t]);
        memcpy(x->db + at, w->db[t], sizeof w->db[t]);
        for (int j = 0; j < N; j++) x->dlog_w[at + j] = w->ddecay[t][j] * w->decay[t][j];
    }
}

/* A part of the chunk that comes next, while this one is worked on: see fetch_forward. */
static inline void fetch_backward(const Arguments *x, int64_t at) {
    for (int t = 0; t < CHUNK; t++, at += x->H * N) {
        __builtin_prefetch(x->r + at), __builtin_prefetch(x->decay + at), __builtin_prefetch(x->k + at);
        __builtin_prefetch(x->v + at), __builtin_prefetch(x->a + at), __builtin_prefetch(x->b + at);
        __builtin_prefetch(x->sa + at), __builtin_prefetch(x->dy + at), __builtin_prefetch(x->dr + at, 1);
        __builtin_prefetch(x->dlog_w + at, 1), __builtin_prefetch(x->dk + at, 1), __builtin_prefetch(x->dv + at, 1);
        __builtin_prefetch(x->da + at, 1), __builtin_prefetch(x->db + at, 1);
    }
}

/* The states after every token of the chunk for a block of rows; `at` is the block in the first token. */
static inline void replay(Work *w, const Arguments *x, int64_t at, int tokens) {
    for (int t = 0; t < tokens; t++, at += x->H * N)
        for (int i = 0; i < BLOCK; i++) {
            const float sa = x->sa[at + i], v = x->v[at + i];
            for (int j = 0; j < N; j += LANES)
                store(&w->states[t + 1][i][j], load(&w->states[t][i][j]) * load(&w->decay[t][j]) +
                                                   (sa * load(&w->b[t][j]) + v * load(&w->k[t][j])));
        }
}

/* What y_t = S_t r_t and S_t = … + sa b^T + v k^T pass back, for two rows from `row` on, which is row i of the
 * block and starts at `at`: dS becomes the gradient of S_t; dsa receives that of sa. */
static inline void back_through_sum(Work *w, const Arguments *x, int t, int row, int i, int64_t at, float *dsa) {
    const float dy0 = x->dy[at], dy1 = x->dy[at + 1], v0 = x->v[at], v1 = x->v[at + 1];
    const float sa0 = x->sa[at], sa1 = x->sa[at + 1];
    vec dv0 = {0}, dv1 = {0}, dsa0 = {0}, dsa1 = {0};
    for (int j = 0; j < N; j += LANES) {
        const vec r = load(&w->r[t][j]), k = load(&w->k[t][j]), b = load(&w->b[t][j]);
        const vec dS0 = load(&w->dS[row][j]) + dy0 * r, dS1 = load(&w->dS[row + 1][j]) + dy1 * r;
        store(&w->dS[row][j], dS0), store(&w->dS[row + 1][j], dS1);
        store(&w->dr[t][j], load(&w->dr[t][j]) + dy0 * load(&w->states[t + 1][i][j]) +
                                dy1 * load(&w->states[t + 1][i + 1][j]));
        store(&w->dk[t][j], load(&w->dk[t][j]) + v0 * dS0 + v1 * dS1);
        store(&w->db[t][j], load(&w->db[t][j]) + sa0 * dS0 + sa1 * dS1);
        dv0 += dS0 * k, dv1 += dS1 * k;
        dsa0 += dS0 * b, dsa1 += dS1 * b;
    }
    const vec4 sum = sums(dv0, dv1, dsa0, dsa1);
    x->dv[at] = sum[0], x->dv[at + 1] = sum[1];
    dsa[0] = sum[2], dsa[1] = sum[3];
}

/* What S_t = S_{t-1} diag(decay) + … and sa = S_{t-1} a pass back, for four rows: dS becomes the gradient of
 * S_{t-1}. */
static inline void back_through_state(Work *w, int t, int row, int i, const float *dsa) {
    const float dsa_[4] = {dsa[0], dsa[1], dsa[2], dsa[3]};
    for (int j = 0; j < N; j += LANES) {
        const vec decay = load(&w->decay[t][j]), a = load(&w->a[t][j]);
        vec ddecay = load(&w->ddecay[t][j]), da = load(&w->da[t][j]);
        for (int m = 0; m < 4; m++) {
            const vec S = load(&w->states[t][i + m][j]), dS = load(&w->dS[row + m][j]);
            ddecay += dS * S;
            da += dsa_[m] * S;
            store(&w->dS[row + m][j], dS * decay + dsa_[m] * a);
        }
        store(&w->ddecay[t][j], ddecay), store(&w->da[t][j], da);
    }
}

static void backward_chunk(Work *w, const Arguments *x, int64_t n, int64_t h, int64_t chunk) {
    const int64_t rest = x->T - chunk * CHUNK, at = token(x, n, chunk * CHUNK, h), stride = x->H * N;
    const int tokens = rest < CHUNK ? (int)rest : CHUNK;
    pack(w, x, at, tokens);
    for (int row = 0; row < N; row += BLOCK) {
        transpose(w->states[0][0], x->states + ((n * x->H + h) * chunk_count(x) + chunk) * N * N + row, BLOCK);
        if (chunk > 0) fetch_backward(x, at - CHUNK * stride + row);
        replay(w, x, at + row, tokens);
        for (int t = tokens - 1; t >= 0; t--) {
            float dsa[BLOCK];
            for (int i = 0; i < BLOCK; i += 2)
                back_through_sum(w, x, t, row + i, i, at + t * stride + row + i, dsa + i);
            for (int i = 0; i < BLOCK; i += 4) back_through_state(w, t, row + i, i, dsa + i);
        }
    }
    unpack(w, x, at, tokens);
}

/* The document that ends before a chunk. */
static void backward_document(const Arguments *x, int64_t n, int64_t h, int64_t end) {
    const int64_t state = (n * x->H + h) * N * N;
    Work w ALIGNED;
    if (end == chunk_count(x) && x->dfinal)
        memcpy(w.dS, x->dfinal + state, sizeof w.dS);
    else
        memset(w.dS, 0, sizeof w.dS);
    int64_t chunk = end;
    do backward_chunk(&w, x, n, h, --chunk);
    while (chunk > 0 && !starts(x, n, chunk));
    if (chunk == 0 && x->dinitial) {
        if (starts(x, n, 0)) memset(w.dS, 0, sizeof w.dS);
        memcpy(x->dinitial + state, w.dS, sizeof w.dS);
    }
}

void wkv7_backward(const Arguments *x) {
    const int64_t chunks = chunk_count(x);
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads((int)x->threads)
    for (int64_t n = 0; n < x->B; n++)
        for (int64_t end = chunks; end > 0; end--)
            for (int64_t h = 0; h < x->H; h++)
                if (end == chunks || starts(x, n, end)) backward_document(x, n, h, end);
}
