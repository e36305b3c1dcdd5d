// The recorder's pass over one batch on a graphics card: a thread per neuron and text, which walks along the tokens with
// its sums, extremes and bounds in registers and its histogram in shared memory. Lists are changed under a lock per
// neuron; what they end with does not depend on the order. Compiled by NVRTC when it is first needed (cuda.py).

#include "shared.h"

enum { THREADS = 128, AHEAD = 4, ROWS = COMBINATIONS * BINS, FULL = 32768 };

struct Rows {  // [texts, tokens, neurons], neurons side by side
    const void *at;
    int64 text, token;  // strides
};

struct Float32 {
    static INLINE float load(const void *at, int64 i) { return ((const float *)at)[i]; }
};
struct Bfloat16 {
    static INLINE float load(const void *at, int64 i) { return float_of((int32)((const unsigned short *)at)[i] << 16); }
};
struct Float16 {
    static INLINE float load(const void *at, int64 i) {
        const int32 half = ((const unsigned short *)at)[i], bits = (half & 0x7FFF) << 13;
        const float size = bits < 0x0F800000 ? float_of(bits) * 5.192296858534828e33f : float_of(bits | 0x7F800000);
        return half & 0x8000 ? -size : size;
    }
};

// Keys by which lists are ordered, larger first; -1 for an empty place.
struct ByMagnitude {
    static INLINE int64 key(Salt, int64 entry) { return entry; }
};
struct Uniform {
    static INLINE int64 key(Salt salt, int64 entry) {
        return entry < 0 ? entry : ((0x7FFFFFFF - hash_bits(salt, LOW - (entry & LOW))) << 32) | (entry & LOW);
    }
};
struct Weighted {
    static INLINE int64 key(Salt salt, int64 entry) {
        if (entry < 0) return entry;
        const float u = uniform_of(hash_bits(salt, LOW - (entry & LOW)));
        return ((int64)bits_of(priority_of(magnitude_of(entry), u)) << 32) | (entry & LOW);
    }
};

// Puts an entry into its place if it beats the last one; the key in the last place afterwards.
template <class Order>
__device__ __noinline__ int64 insert(volatile int64 *list, int64 k, int64 entry, Salt salt) {
    const int64 key = Order::key(salt, entry), last = k - 1, worst = Order::key(salt, list[last]);
    if (key <= worst) return worst;
    int64 place = last;
    for (; place > 0; --place) {
        const int64 before = list[place - 1];
        if (Order::key(salt, before) >= key) break;
        list[place] = before;
    }
    list[place] = entry;
    return Order::key(salt, list[last]);
}

// Lists are changed between these two, by one thread at a time; false: another one has them.
static INLINE bool acquire(const Layer &layer, int64 n) {
    if (atomicCAS(layer.locks + n, 0, 1) != 0) return false;
    __threadfence();
    return true;
}
static INLINE void release(const Layer &layer, int64 n) {
    __threadfence();
    atomicExch(layer.locks + n, 0);
}

// Order of floats as that of integers; -0 becomes 0.
static INLINE void lower(float *at, float value) {
    value += 0.0f;
    if (value >= 0) atomicMin((int *)at, bits_of(value));
    else atomicMax((unsigned int *)at, (unsigned int)bits_of(value));
}
static INLINE void raise(float *at, float value) {
    value += 0.0f;
    if (value >= 0) atomicMax((int *)at, bits_of(value));
    else atomicMin((unsigned int *)at, (unsigned int)bits_of(value));
}

struct Token {  // magnitudes of post, x_in, x_gate; act; the combination
    float value[QUANTITIES];
    int32 code;
};

// What a thread has seen, and what a token must reach to be looked at; as Tile in cpu.cpp.
struct Seen {
    double sum[COMBINATIONS][QUANTITIES];
    float near[RANKED][COMBINATIONS], low[COMBINATIONS], high[COMBINATIONS];
    float bound[RANKED][COMBINATIONS], least[COMBINATIONS];
    int32 most[COMBINATIONS];
};

// What is touched at changing places, by thread.
struct Shared {
    unsigned short count[ROWS][THREADS];           // |post| by combination and bin
    float peak[RANKED * COMBINATIONS][THREADS];    // the largest magnitude of this text that reached its bound, else 0
    int32 at[RANKED * COMBINATIONS][THREADS];      // and its first position
};

// What is kept in registers is never indexed by a combination that is known at run time only: all four places are read
// or written, and one is meant.
template <class T> static INLINE T of(const T (&all)[COMBINATIONS], int32 code) {
    const T a = all[0], b = all[1], c = all[2], d = all[3];
    const T first = code == 0 ? a : b, second = code == 2 ? c : d;
    return code < 2 ? first : second;
}

static INLINE bool make(Token &token, float g, float i, float a) {
    token.value[POST] = size_of(a * i);
    token.value[INTO] = size_of(i);
    token.value[GATE] = size_of(g);
    token.value[ACT] = a;
    const int32 code = (g > 0 ? 0 : 2) + (i > 0 ? 0 : 1);
    token.code = g == 0 || i == 0 ? (int32)NONE : code;
    return !finite(g * i);
}

// `scaled` is u * ALMOST: the priority itself is compared where it matters.
static INLINE bool close(const Seen &seen, const Token &token, int32 bits, float scaled) {
    bool any = bits <= of(seen.most, token.code) || token.value[POST] >= of(seen.least, token.code) * scaled;
#pragma unroll
    for (int q = 0; q < RANKED; ++q)
        any |= token.value[q] >= of(seen.bound[q], token.code) || token.value[q] < of(seen.near[q], token.code);
    return any | (token.value[ACT] < of(seen.low, token.code)) | (token.value[ACT] > of(seen.high, token.code));
}

static INLINE void add(Seen &seen, const Token &token) {
#pragma unroll
    for (int q = 0; q < QUANTITIES; ++q) {
        const double value = token.value[q];
#pragma unroll
        for (int c = 0; c < COMBINATIONS; ++c) seen.sum[c][q] += token.code == c ? value : 0.0;
    }
}

static INLINE void rise(Seen &seen, Shared &shared, const Token &token, int32 position) {
#pragma unroll
    for (int q = 0; q < RANKED; ++q) {
        const float value = token.value[q];
        if (!(value >= of(seen.bound[q], token.code))) continue;
        shared.peak[q * COMBINATIONS + token.code][threadIdx.x] = value;
        shared.at[q * COMBINATIONS + token.code][threadIdx.x] = position;
#pragma unroll
        for (int c = 0; c < COMBINATIONS; ++c)  // later in this text, only what is larger
            seen.bound[q][c] = token.code == c ? float_of(bits_of(value) + 1) : seen.bound[q][c];
    }
}

static INLINE void widen(Seen &seen, const Token &token) {
#pragma unroll
    for (int c = 0; c < COMBINATIONS; ++c) {
        const bool inside = token.code == c;
#pragma unroll
        for (int q = 0; q < RANKED; ++q)
            seen.near[q][c] = inside ? min(seen.near[q][c], token.value[q]) : seen.near[q][c];
        seen.low[c] = inside ? min(seen.low[c], token.value[ACT]) : seen.low[c];
        seen.high[c] = inside ? max(seen.high[c], token.value[ACT]) : seen.high[c];
    }
}

// Offers a token to both samples.
static INLINE void sample(const Layer &layer, Seen &seen, const Token &token, int64 n, int64 split, int64 number,
                          int32 bits, float u) {
    const float post = token.value[POST];
    int32 most = of(seen.most, token.code);
    float least = of(seen.least, token.code);
    const bool drawn = bits <= most, weighty = post > 0 && priority_of(post, u) >= least;
    if (!drawn && !weighty) return;
    const int64 list = ((n * SPLITS + split) * COMBINATIONS + token.code) * layer.k, entry = pack(post, number);
    const int64 cache = (split * COMBINATIONS + token.code) * layer.neurons + n;
    for (bool done = false; !done;) {
        if (!acquire(layer, n)) continue;
        if (drawn) {
            most = worst_bits(insert<Uniform>(layer.uniform + list, layer.k, entry, layer.salt));
            ((volatile int32 *)layer.worst_uniform)[cache] = most;
        }
        if (weighty) {
            const float worst = worst_magnitude(insert<Weighted>(layer.weighted + list, layer.k, entry, layer.salt));
            ((volatile float *)layer.worst_weighted)[cache] = worst;
            least = bound_of(worst);
        }
        release(layer, n);
        done = true;
    }
#pragma unroll
    for (int c = 0; c < COMBINATIONS; ++c) {
        seen.most[c] = token.code == c ? most : seen.most[c];
        seen.least[c] = token.code == c ? least : seen.least[c];
    }
}

static INLINE void widen(const Layer &layer, int64 at, int c, int q, float near, float far) {
    const bool up = sign_of(c, q) > 0;
    lower(layer.minima + at + q, up ? near : -far);
    raise(layer.maxima + at + q, up ? far : -near);
}

// Position 0: only counts, sums and extremes.
static INLINE void take_first(const Layer &layer, const Token &token, int64 n) {
#pragma unroll
    for (int c = 0; c < COMBINATIONS; ++c) {
        if (token.code != c) continue;
        const int64 at = (n * COMBINATIONS + c) * QUANTITIES;
        atomicAdd((unsigned long long *)layer.first_counts + n * COMBINATIONS + c, 1ULL);
#pragma unroll
        for (int q = 0; q < QUANTITIES; ++q) {
            const float value = token.value[q];
            atomicAdd(layer.sums + at + q, (double)(q == ACT || sign_of(c, q) > 0 ? value : -value));
            if (q != ACT) widen(layer, at, c, q, value, value);
        }
        lower(layer.minima + at + ACT, token.value[ACT]);
        raise(layer.maxima + at + ACT, token.value[ACT]);
    }
}

static INLINE void begin(const Layer &layer, Seen &seen, int64 n) {
#pragma unroll
    for (int c = 0; c < COMBINATIONS; ++c) {
        const int64 at = (n * COMBINATIONS + c) * QUANTITIES;
#pragma unroll
        for (int q = 0; q < QUANTITIES; ++q) seen.sum[c][q] = 0.0;
#pragma unroll
        for (int q = 0; q < RANKED; ++q) seen.near[q][c] = sign_of(c, q) > 0 ? layer.minima[at + q] : -layer.maxima[at + q];
        seen.low[c] = layer.minima[at + ACT];
        seen.high[c] = layer.maxima[at + ACT];
    }
}

// What the lists ask for before a text is read. Other threads may raise it meanwhile: then more is offered, in vain.
static INLINE void begin_text(const Layer &layer, Seen &seen, Shared &shared, int64 n, int64 split) {
#pragma unroll
    for (int c = 0; c < COMBINATIONS; ++c) {
        const int64 whole = c * layer.neurons + n, parted = whole + split * COMBINATIONS * layer.neurons;
        seen.bound[POST][c] = bound_of(((volatile float *)layer.worst[POST])[parted]);
        seen.bound[INTO][c] = bound_of(((volatile float *)layer.worst[INTO])[whole]);
        seen.bound[GATE][c] = bound_of(((volatile float *)layer.worst[GATE])[whole]);
        seen.least[c] = bound_of(((volatile float *)layer.worst_weighted)[parted]);
        seen.most[c] = ((volatile int32 *)layer.worst_uniform)[parted];
    }
    for (int place = 0; place < RANKED * COMBINATIONS; ++place) shared.peak[place][threadIdx.x] = 0.0f;
}

static INLINE void end_text(const Layer &layer, const Shared &shared, int64 n, int64 split, int64 first) {
    for (int place = 0; place < RANKED * COMBINATIONS; ++place) {
        const float peak = shared.peak[place][threadIdx.x];
        if (!(peak > 0)) continue;
        const int q = place / COMBINATIONS, c = place % COMBINATIONS;
        const int64 at = (n * COMBINATIONS + c) * QUANTITIES + q, group = q == POST ? split * COMBINATIONS + c : c;
        const int64 list = n * (q == POST ? SPLITS * COMBINATIONS : COMBINATIONS) + group;
        const int64 entry = pack(peak, first + shared.at[place][threadIdx.x]);
        // No list turns the largest of all away.
        if (sign_of(c, q) > 0) raise(layer.maxima + at, peak);
        else lower(layer.minima + at, -peak);
        for (bool done = false; !done;) {
            if (!acquire(layer, n)) continue;
            const int64 worst = insert<ByMagnitude>(layer.top[q] + list * layer.k, layer.k, entry, layer.salt);
            ((volatile float *)layer.worst[q])[group * layer.neurons + n] = worst_magnitude(worst);
            release(layer, n);
            done = true;
        }
    }
}

static INLINE void end(const Layer &layer, const Seen &seen, int64 n) {
#pragma unroll
    for (int c = 0; c < COMBINATIONS; ++c) {
        const int64 at = (n * COMBINATIONS + c) * QUANTITIES;
        atomicAdd(layer.mass + n * COMBINATIONS + c, seen.sum[c][POST]);
#pragma unroll
        for (int q = 0; q < QUANTITIES; ++q)
            atomicAdd(layer.sums + at + q, q == ACT || sign_of(c, q) > 0 ? seen.sum[c][q] : -seen.sum[c][q]);
        if (seen.low[c] > seen.high[c]) continue;  // nothing of this combination yet
        lower(layer.minima + at + ACT, seen.low[c]);
        raise(layer.maxima + at + ACT, seen.high[c]);
#pragma unroll
        for (int q = 0; q < RANKED; ++q) widen(layer, at, c, q, seen.near[q][c], seen.near[q][c]);
    }
}

static INLINE void flush(const Layer &layer, Shared &shared, int64 n, int64 split) {
    for (int row = 0; row < ROWS; ++row) {
        const unsigned short counted = shared.count[row][threadIdx.x];
        if (!counted) continue;
        atomicAdd(layer.histogram + (n * SPLITS + split) * ROWS + row, (int32)counted);
        shared.count[row][threadIdx.x] = 0;
    }
}

template <class Type>
static INLINE void record(const Layer &layer, const Texts &texts, const Rows &gate, const Rows &into, const Rows &act) {
    __shared__ Shared shared;
    const int64 n = (int64)blockIdx.x * THREADS + threadIdx.x;
    if (n >= layer.neurons) return;  // no thread waits for another
    for (int row = 0; row < ROWS; ++row) shared.count[row][threadIdx.x] = 0;
    const float sign = layer.sign[n];
    Seen seen;
    Token token;
    bool flawed = false;
    begin(layer, seen, n);
    for (int64 b = blockIdx.y; b < texts.count; b += gridDim.y) {
        const int64 split = texts.splits[b], first = texts.first[b];
        const int32 length = (int32)texts.lengths[b], *bits = texts.bits + b * texts.width;
        const float *u = texts.u + b * texts.width;
        const int64 g0 = b * gate.text + n, i0 = b * into.text + n, a0 = b * act.text + n;
        begin_text(layer, seen, shared, n, split);
        float gates[AHEAD], intos[AHEAD];  // on their way from memory while others are worked on
#pragma unroll
        for (int ahead = 0; ahead < AHEAD; ++ahead) {
            const int32 t = min(ahead, length - 1);
            gates[ahead] = Type::load(gate.at, g0 + t * gate.token);
            intos[ahead] = Type::load(into.at, i0 + t * into.token);
        }
#pragma unroll 1
        for (int32 t = 0; t < length; ++t) {
            if (t % FULL == FULL - 1) flush(layer, shared, n, split);  // before 16 bits are full
            const float g = gates[0], i = intos[0] * sign;
#pragma unroll
            for (int ahead = 0; ahead + 1 < AHEAD; ++ahead) {
                gates[ahead] = gates[ahead + 1];
                intos[ahead] = intos[ahead + 1];
            }
            const int32 later = min(t + AHEAD, length - 1);
            gates[AHEAD - 1] = Type::load(gate.at, g0 + later * gate.token);
            intos[AHEAD - 1] = Type::load(into.at, i0 + later * into.token);
            flawed |= make(token, g, i, act.at ? ((const float *)act.at)[a0 + t * act.token] : silu(g));
            if (token.code == NONE) continue;
            if (t == 0) {
                take_first(layer, token, n);
                continue;
            }
            add(seen, token);
            ++shared.count[token.code * BINS + bin_of(token.value[POST])][threadIdx.x];
            if (close(seen, token, bits[t], u[t] * ALMOST)) {
                widen(seen, token);
                rise(seen, shared, token, t);
                sample(layer, seen, token, n, split, first + t, bits[t], u[t]);
            }
        }
        end_text(layer, shared, n, split, first);
        flush(layer, shared, n, split);
    }
    end(layer, seen, n);
    if (flawed) atomicExch(layer.flawed, 1);
}

#define KERNEL(name, Type)                                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                             \
        name(const __grid_constant__ Layer layer, const __grid_constant__ Texts texts, const Rows gate,               \
             const Rows into, const Rows act) {                                                                       \
        record<Type>(layer, texts, gate, into, act);                                                                  \
    }

KERNEL(record_float32, Float32)
KERNEL(record_bfloat16, Bfloat16)
KERNEL(record_float16, Float16)
