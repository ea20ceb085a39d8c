/* The recurrence of RWKV-5 and RWKV-6 in fp32 for heads of 64 channels, forward and backward.
 *
 *     y_t = S_{t-1}^T r_t + (r_t . (u k_t)) v_t,      S_t = diag(decay_t) S_{t-1} + k_t v_t^T
 *
 * States are [B, H, N (k), N (v)]. For the backward pass are kept: states, before each chunk [B, H, chunks, N (k),
 * N (v)]. No decay is ever divided by, so that one which forgets everything at once is like any other.
 *
 * Forward, the lanes of a vector are columns of S, so that S^T r is a sum of vectors. Backward, they are its rows (S
 * is kept transposed), so that the gradients of r, decay and k are. As in wkv7.c the states inside a chunk are
 * computed again.
 */
#include "wkv.h"

#define VECTORS 4
#define COLUMNS (VECTORS * LANES) /* that the forward pass keeps in registers */
#define BLOCK 16                  /* columns whose states of a chunk fit into the nearest caches */

/* What a token gives to itself: r . (u k). */
static inline float own(const float *r, const float *u, const float *k) {
    vec sum = {0};
    for (int j = 0; j < N; j += LANES) sum += load(r + j) * load(u + j) * load(k + j);
    const vec4 total = sums(sum, sum, sum, sum);
    return total[0];
}

/* One token, which starts at `at`, for the columns from `column` on. */
static inline void step(const Arguments *x, float (*S)[N], float bonus, int column, int64_t at) {
    const float *r = x->r + at, *decay = x->decay + at, *k = x->k + at;
    vec v[VECTORS], y[VECTORS];
    for (int i = 0; i < VECTORS; i++) {
        v[i] = load(x->v + at + column + i * LANES);
        y[i] = v[i] * bonus;
    }
    for (int j = 0; j < N; j++)
        for (int i = 0; i < VECTORS; i++) {
            float *p = &S[j][column + i * LANES];
            const vec s = load(p);
            y[i] += s * r[j];
            store(p, s * decay[j] + v[i] * k[j]);
        }
    for (int i = 0; i < VECTORS; i++) store(x->y + at + column + i * LANES, y[i]);
}

/* Tokens of a head lie too far apart for the machine to see the next one coming. */
static inline void fetch_forward(const Arguments *x, int64_t at) {
    for (int j = 0; j < N; j += LINE) {
        const int64_t p = at + j;
        __builtin_prefetch(x->r + p), __builtin_prefetch(x->decay + p), __builtin_prefetch(x->k + p);
        __builtin_prefetch(x->v + p), __builtin_prefetch(x->y + p, 1);
    }
}

/* The document that starts with a chunk. */
static void forward_document(const Arguments *x, int64_t n, int64_t h, int64_t chunk) {
    const int64_t chunks = chunk_count(x), head = n * x->H + h;
    float S[N][N] ALIGNED = {{0}};
    int64_t t = chunk * CHUNK;
    if (x->initial && !starts(x, n, chunk)) memcpy(S, x->initial + head * N * N, sizeof S);
    do {
        const int64_t at = token(x, n, t, h);
        fetch_forward(x, t + 1 < x->T ? token(x, n, t + 1, h) : at);
        if (x->states && t % CHUNK == 0)
            memcpy(x->states + (head * chunks + t / CHUNK) * N * N, S, sizeof S);
        const float bonus = own(x->r + at, x->u + h * N, x->k + at);
        for (int column = 0; column < N; column += COLUMNS) step(x, S, bonus, column, at);
        t++;
    } while (t < x->T && !(t % CHUNK == 0 && starts(x, n, t / CHUNK)));
    if (t == x->T) memcpy(x->final + head * N * N, S, sizeof S);
}

void wkv56_forward(const Arguments *x) {
    const int64_t chunks = chunk_count(x);
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads((int)x->threads)
    for (int64_t n = 0; n < x->B; n++)
        for (int64_t chunk = 0; chunk < chunks; chunk++)
            for (int64_t h = 0; h < x->H; h++)
                if (chunk == 0 || starts(x, n, chunk)) forward_document(x, n, h, chunk);
}

/* What the backward pass works on: a chunk of a head, packed, its states for one block of columns, and dS for all;
 * both transposed. */
typedef struct {
    float r[CHUNK][N], decay[CHUNK][N], k[CHUNK][N], bonus[CHUNK];
    float dr[CHUNK][N], ddecay[CHUNK][N], dk[CHUNK][N];
    float states[CHUNK][BLOCK][N]; /* before each token */
    float dS[N][N];
} Work;

static void pack(Work *w, const Arguments *x, int64_t at, const float *u, int tokens) {
    for (int t = 0; t < tokens; t++, at += x->H * N) {
        memcpy(w->r[t], x->r + at, sizeof w->r[t]);
        memcpy(w->decay[t], x->decay + at, sizeof w->decay[t]);
        memcpy(w->k[t], x->k + at, sizeof w->k[t]);
        w->bonus[t] = own(w->r[t], u, w->k[t]);
    }
    memset(w->dr, 0, sizeof w->dr), memset(w->ddecay, 0, sizeof w->ddecay), memset(w->dk, 0, sizeof w->dk);
}

/* Adds what the bonus passes back, and writes the gradients of the chunk; `du` is the chunk's part of the sum. */
static void unpack(const Work *w, const Arguments *x, int64_t at, const float *u, float *du, int tokens) {
    memset(du, 0, N * sizeof *du);
    for (int t = 0; t < tokens; t++, at += x->H * N) {
        float dbonus = 0;
        for (int i = 0; i < N; i++) dbonus += x->dy[at + i] * x->v[at + i];
        for (int j = 0; j < N; j++) {
            const float r = w->r[t][j], k = w->k[t][j];
            x->dr[at + j] = w->dr[t][j] + dbonus * u[j] * k;
            x->dk[at + j] = w->dk[t][j] + dbonus * u[j] * r;
            x->dlog_w[at + j] = w->ddecay[t][j] * w->decay[t][j];
            du[j] += dbonus * r * k;
        }
    }
}

/* A part of the chunk that comes next, while this one is worked on: see fetch_forward. */
static inline void fetch_backward(const Arguments *x, int64_t at) {
    for (int t = 0; t < CHUNK; t++, at += x->H * N) {
        __builtin_prefetch(x->r + at), __builtin_prefetch(x->decay + at), __builtin_prefetch(x->k + at);
        __builtin_prefetch(x->v + at), __builtin_prefetch(x->dy + at), __builtin_prefetch(x->dv + at, 1);
        __builtin_prefetch(x->dr + at, 1), __builtin_prefetch(x->dlog_w + at, 1), __builtin_prefetch(x->dk + at, 1);
    }
}

/* The states before every token of the chunk for a block of columns; `at` is the block in the first token. */
static inline void replay(Work *w, const Arguments *x, int64_t at, int tokens) {
    for (int t = 0; t + 1 < tokens; t++, at += x->H * N)
        for (int i = 0; i < BLOCK; i++) {
            const float v = x->v[at + i];
            for (int j = 0; j < N; j += LANES)
                store(&w->states[t + 1][i][j],
                      load(&w->states[t][i][j]) * load(&w->decay[t][j]) + v * load(&w->k[t][j]));
        }
}

/* What a token passes back through four columns from `column` on, which is column i of the block and starts at `at`:
 * dS, the gradient of S_t, becomes that of S_{t-1}. */
static inline void back(Work *w, const Arguments *x, int t, int column, int i, int64_t at) {
    const float bonus = w->bonus[t];
    float dy[4], v[4];
    vec dv[4];
    for (int m = 0; m < 4; m++) dy[m] = x->dy[at + m], v[m] = x->v[at + m], dv[m] = (vec){0};
    for (int j = 0; j < N; j += LANES) {
        const vec r = load(&w->r[t][j]), k = load(&w->k[t][j]), decay = load(&w->decay[t][j]);
        vec dr = load(&w->dr[t][j]), dk = load(&w->dk[t][j]), ddecay = load(&w->ddecay[t][j]);
        for (int m = 0; m < 4; m++) {
            const vec S = load(&w->states[t][i + m][j]), dS = load(&w->dS[column + m][j]);
            dr += dy[m] * S;
            dk += v[m] * dS;
            ddecay += dS * S;
            dv[m] += dS * k;
            store(&w->dS[column + m][j], dS * decay + dy[m] * r);
        }
        store(&w->dr[t][j], dr), store(&w->dk[t][j], dk), store(&w->ddecay[t][j], ddecay);
    }
    const vec4 sum = sums(dv[0], dv[1], dv[2], dv[3]);
    for (int m = 0; m < 4; m++) x->dv[at + m] = sum[m] + bonus * dy[m];
}

static void backward_chunk(Work *w, const Arguments *x, int64_t n, int64_t h, int64_t chunk) {
    const int64_t rest = x->T - chunk * CHUNK, at = token(x, n, chunk * CHUNK, h), stride = x->H * N;
    const int64_t chunks = chunk_count(x);
    const int tokens = rest < CHUNK ? (int)rest : CHUNK;
    pack(w, x, at, x->u + h * N, tokens);
    for (int column = 0; column < N; column += BLOCK) {
        transpose(w->states[0][0], x->states + ((n * x->H + h) * chunks + chunk) * N * N + column, BLOCK);
        if (chunk > 0) fetch_backward(x, at - CHUNK * stride + column);
        replay(w, x, at + column, tokens);
        for (int t = tokens - 1; t >= 0; t--)
            for (int i = 0; i < BLOCK; i += 4) back(w, x, t, column + i, i, at + t * stride + column + i);
    }
    unpack(w, x, at, x->u + h * N, x->du + ((n * chunks + chunk) * x->H + h) * N, tokens);
}

/* The document that ends before a chunk. */
static void backward_document(const Arguments *x, int64_t n, int64_t h, int64_t end) {
    const int64_t state = (n * x->H + h) * N * N;
    Work w ALIGNED;
    if (end == chunk_count(x) && x->dfinal)
        transpose(w.dS[0], x->dfinal + state, N);
    else
        memset(w.dS, 0, sizeof w.dS);
    int64_t chunk = end;
    do backward_chunk(&w, x, n, h, --chunk);
    while (chunk > 0 && !starts(x, n, chunk));
    if (chunk == 0 && x->dinitial) {
        if (starts(x, n, 0)) memset(w.dS, 0, sizeof w.dS);
        transpose(x->dinitial + state, w.dS[0], N);
    }
}

void wkv56_backward(const Arguments *x) {
    const int64_t chunks = chunk_count(x);
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads((int)x->threads)
    for (int64_t n = 0; n < x->B; n++)
        for (int64_t end = chunks; end > 0; end--)
            for (int64_t h = 0; h < x->H; h++)
                if (end == chunks || starts(x, n, end)) backward_document(x, n, h, end);
}
