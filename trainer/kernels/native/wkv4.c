/* The RWKV-4 average in fp32, forward and backward, channel by channel; a "head" is a block of 64 channels.
 *
 *     y_t = (A_{t-1} + e^{u + k_t} v_t) / (B_{t-1} + e^{u + k_t}),
 *     A_t = e^w A_{t-1} + e^{k_t} v_t,    B_t = e^w B_{t-1} + e^{k_t}
 *
 * A and B are kept as aa e^pp and bb e^pp, and their gradients as ga e^o and gb e^o, each with the largest exponent
 * that occurs in its sum. Every exponential is then of a number that is not above 0. States are [B, 3, H, N]. For
 * the backward pass are kept: states, before each token [B, T, H, 3, N]. The decay comes as its logarithm [H, N],
 * and the gradients of u and of that are parts of sums, [B, chunks, H, N].
 */
#include "wkv.h"

#define NOTHING (-1e30f) /* the exponent of a sum without terms */
#define EACH for (int i = 0; i < N; i += LANES)

typedef int32_t ivec __attribute__((vector_size(4 * LANES), may_alias));

static inline vec all(float x) { return (vec){0} + x; }
static inline vec choose(ivec condition, vec yes, vec no) {
    return (vec)(((ivec)yes & condition) | ((ivec)no & ~condition));
}

/* e^x for x <= 0, to the last digit or two. Cody and Waite: x = n ln 2 + f, and a Taylor polynomial for e^f. */
static inline vec exp_negative(vec x) {
    const float round_ = 12582912.f; /* 1.5 * 2^23: adding it leaves the nearest integer in the lowest bits */
    const vec shifted = x * 1.44269504f + round_, n = shifted - round_;
    const vec f = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = all(1.f / 5040);
    p = p * f + 1.f / 720;
    p = p * f + 1.f / 120;
    p = p * f + 1.f / 24;
    p = p * f + 1.f / 6;
    p = p * f + 0.5f;
    p = p * f + 1;
    p = p * f + 1;
    const vec power = (vec)(((ivec)shifted + 127) << 23);
    return choose(x < -87.f, all(0), p * power);
}

/* e^(a - top) and e^(b - top), where top is the larger of both. */
typedef struct {
    vec top, a, b;
} Pair;

static inline Pair scaled(vec a, vec b) {
    const ivec larger = a > b;
    Pair p;
    p.top = choose(larger, a, b);
    const vec smaller = exp_negative(choose(larger, b, a) - p.top);
    const vec one = p.top - p.top + 1; /* not a number where top is none */
    p.a = choose(larger, one, smaller);
    p.b = choose(larger, smaller, one);
    return p;
}

/* Sums, or their gradients, of a block of channels. */
typedef struct {
    float a[N], b[N], exponent[N];
} Sums;

static void read_sums(Sums *s, const float *at, int64_t stride) {
    memcpy(s->a, at, sizeof s->a);
    memcpy(s->b, at + stride, sizeof s->b);
    memcpy(s->exponent, at + 2 * stride, sizeof s->exponent);
}

static void write_sums(float *at, const Sums *s, int64_t stride) {
    memcpy(at, s->a, sizeof s->a);
    memcpy(at + stride, s->b, sizeof s->b);
    memcpy(at + 2 * stride, s->exponent, sizeof s->exponent);
}

static void no_sums(Sums *s) {
    memset(s, 0, sizeof *s);
    EACH store(s->exponent + i, all(NOTHING));
}

/* The document that starts with a chunk. */
static void forward_document(const Arguments *x, int64_t n, int64_t h, int64_t chunk) {
    const int64_t channels = x->H * N, state = 3 * n * channels + h * N;
    const float *u = x->u + h * N, *log_w = x->decay + h * N;
    Sums s ALIGNED;
    int64_t t = chunk * CHUNK;
    if (x->initial && !starts(x, n, chunk))
        read_sums(&s, x->initial + state, channels);
    else
        no_sums(&s);
    do {
        const int64_t at = token(x, n, t, h);
        if (x->states) write_sums(x->states + 3 * at, &s, N);
        EACH {
            const vec aa = load(s.a + i), bb = load(s.b + i), pp = load(s.exponent + i);
            const vec k = load(x->k + at + i), v = load(x->v + at + i);
            Pair p = scaled(pp, load(u + i) + k);
            store(x->y + at + i, (p.a * aa + p.b * v) / (p.a * bb + p.b));
            p = scaled(pp + load(log_w + i), k);
            store(s.a + i, p.a * aa + p.b * v);
            store(s.b + i, p.a * bb + p.b);
            store(s.exponent + i, p.top);
        }
        t++;
    } while (t < x->T && !(t % CHUNK == 0 && starts(x, n, t / CHUNK)));
    if (t == x->T) write_sums(x->final + state, &s, channels);
}

void wkv4_forward(const Arguments *x) {
    const int64_t chunks = chunk_count(x);
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads((int)x->threads)
    for (int64_t n = 0; n < x->B; n++)
        for (int64_t chunk = 0; chunk < chunks; chunk++)
            for (int64_t h = 0; h < x->H; h++)
                if (chunk == 0 || starts(x, n, chunk)) forward_document(x, n, h, chunk);
}

/* g, the gradients of A_t and B_t, become those of A_{t-1} and B_{t-1}. */
static void backward_chunk(Sums *g, const Arguments *x, int64_t n, int64_t h, int64_t chunk) {
    const int64_t rest = x->T - chunk * CHUNK, part = ((n * chunk_count(x) + chunk) * x->H + h) * N;
    const float *u = x->u + h * N, *log_w = x->decay + h * N;
    float *du = x->du + part, *dlog_w = x->dlog_w + part;
    EACH store(du + i, all(0)), store(dlog_w + i, all(0));
    for (int64_t t = (rest < CHUNK ? rest : CHUNK) - 1; t >= 0; t--) {
        const int64_t at = token(x, n, chunk * CHUNK + t, h);
        const float *kept = x->states + 3 * at;
        EACH {
            const vec aa = load(kept + i), bb = load(kept + N + i), pp = load(kept + 2 * N + i);
            const vec k = load(x->k + at + i), v = load(x->v + at + i), w = load(log_w + i);
            const vec ga = load(g->a + i), gb = load(g->b + i), o = load(g->exponent + i);
            const Pair read = scaled(pp, load(u + i) + k);
            const vec sum = read.a * bb + read.b, y = (read.a * aa + read.b * v) / sum;
            const vec dy = load(x->dy + at + i) / sum; /* times e^-top: of the numerator */
            const vec own = dy * read.b, down = own * (v - y);
            const vec kept_k = exp_negative(k + o);
            store(x->dv + at + i, kept_k * ga + own);
            store(x->dk + at + i, kept_k * (ga * v + gb) + down);
            store(du + i, load(du + i) + down);
            store(dlog_w + i, load(dlog_w + i) + exp_negative(pp + w + o) * (aa * ga + bb * gb));
            const Pair p = scaled(o + w, -read.top);
            store(g->a + i, p.a * ga + p.b * dy);
            store(g->b + i, p.a * gb - p.b * dy * y);
            store(g->exponent + i, p.top);
        }
    }
}

/* The document that ends before a chunk. */
static void backward_document(const Arguments *x, int64_t n, int64_t h, int64_t end) {
    const int64_t channels = x->H * N, state = 3 * n * channels + h * N;
    Sums g ALIGNED, s ALIGNED;
    no_sums(&g);
    if (end == chunk_count(x) && x->dfinal) {
        read_sums(&g, x->dfinal + state, channels);
        read_sums(&s, x->final + state, channels);
        EACH store(g.exponent + i, -load(s.exponent + i));
    }
    int64_t chunk = end;
    do backward_chunk(&g, x, n, h, --chunk);
    while (chunk > 0 && !starts(x, n, chunk));
    if (chunk > 0 || !x->dinitial) return;
    memset(&s, 0, sizeof s);
    if (!starts(x, n, 0)) {
        read_sums(&s, x->initial + state, channels);
        EACH {
            const vec scale = exp_negative(load(g.exponent + i) + load(s.exponent + i));
            const vec da = load(g.a + i) * scale, db = load(g.b + i) * scale;
            store(s.exponent + i, load(s.a + i) * da + load(s.b + i) * db);
            store(s.a + i, da), store(s.b + i, db);
        }
    }
    write_sums(x->dinitial + state, &s, channels);
}

void wkv4_backward(const Arguments *x) {
    const int64_t chunks = chunk_count(x);
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads((int)x->threads)
    for (int64_t n = 0; n < x->B; n++)
        for (int64_t end = chunks; end > 0; end--)
            for (int64_t h = 0; h < x->H; h++)
                if (end == chunks || starts(x, n, end)) backward_document(x, n, h, end);
}
