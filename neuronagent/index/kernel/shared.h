// What the passes on processors (cpu.cpp) and graphics cards (gpu.cu) share: the state of a layer as `state.py` lays it
// out, a batch as `batch.py` does, and the arithmetic of one token.

#ifndef NEURONAGENT_SHARED_H
#define NEURONAGENT_SHARED_H

#ifdef __CUDACC__
#define INLINE __device__ __forceinline__
typedef long long int64;
typedef unsigned long long uint64;
typedef int int32;
#else
#include <cstdint>
#define INLINE inline __attribute__((always_inline))
typedef int64_t int64;
typedef uint64_t uint64;
typedef int32_t int32;
#endif

enum { COMBINATIONS = 4, SPLITS = 3, QUANTITIES = 4, BINS = 34, NONE = COMBINATIONS };
enum { POST = 0, INTO = 1, GATE = 2, ACT = 3, RANKED = 3 };  // quantities; the first three have top lists

static const int64 LOW = 0xFFFFFFFFLL;
static const float BEYOND = 3e38f;      // above any activation
static const float ALMOST = 0.999999f;  // |post| >= bound * u * ALMOST wherever |post| / u >= bound

// The two halves of hashing.key_of.
struct Salt {
    uint64 start, middle;
};

// One layer of `neurons` neurons. State: first_counts, mass [n, 4]; sums, minima, maxima [n, 4, 4]; histogram
// [n, 3, 4, bins]; lists of k packed entries: top[POST] [n, 3, 4, k], top[INTO], top[GATE] [n, 4, k], uniform, weighted
// [n, 3, 4, k]. Caches of what the last places of the lists hold, neurons side by side: worst[POST], worst_weighted,
// worst_uniform [3, 4, n], worst[INTO], worst[GATE] [4, n].
struct Layer {
    int64 neurons, k;
    Salt salt;
    const float *sign;
    int64 *first_counts;
    double *sums, *mass;
    float *minima, *maxima;
    int32 *histogram;
    int64 *top[RANKED], *uniform, *weighted;
    float *worst[RANKED], *worst_weighted;
    int32 *worst_uniform;
    int64 *uniform_keys, *weighted_keys;  // [n, 3, 4, k]: what the samples are ordered by; null where it is worked out
    int32 *locks;   // [n], where several threads share a neuron
    int32 *flawed;  // set to 1 where an activation is not finite
};

// A batch of texts, padded to `width` tokens: text b has `lengths[b]` tokens from corpus token number `first[b]`, in
// split `splits[b]`; token t has the hash `bits[b * width + t]` and u = `u[b * width + t]`.
struct Texts {
    int64 count, width;
    const int64 *lengths, *first, *splits;
    const int32 *bits;
    const float *u;
};

static INLINE int32 bits_of(float value) {
    union { float f; int32 i; } both;
    both.f = value;
    return both.i;
}

static INLINE float float_of(int32 bits) {
    union { float f; int32 i; } both;
    both.i = bits;
    return both.f;
}

// |value|, without the sign of a zero.
static INLINE float size_of(float value) { return float_of(bits_of(value) & 0x7FFFFFFF); }

static INLINE int64 pack(float magnitude, int64 number) {
    return ((int64)bits_of(magnitude) << 32) | (LOW - number);
}

// The histogram's bin: the exponent counts octaves, and adding 1 - (sqrt 2 - 1) to the mantissa carries in their upper halves.
static INLINE int32 bin_of(float magnitude) {
    const int32 half_octave = 0x800000 - (0x3FB504F3 & 0x7FFFFF), first = 2 * (127 - 10) - 1;
    int32 bits = bits_of(magnitude);
    int32 bin = (bits >> 23) + ((bits + half_octave) >> 23) - first;
    bin = bin < 0 ? 0 : bin;
    return bin > BINS - 1 ? BINS - 1 : bin;
}

// As hashing.uniform_bits.
static INLINE int64 hash_bits(Salt salt, int64 number) {
    uint64 z = (uint64)number * 0x9E3779B97F4A7C15ULL + salt.start;
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL) ^ salt.middle;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return (int64)((z ^ (z >> 31)) >> 33);
}

static INLINE float uniform_of(int64 bits) { return (float)(((double)bits + 0.5) / 2147483648.0); }

static INLINE float magnitude_of(int64 entry) { return entry < 0 ? 0.0f : float_of((int32)(entry >> 32)); }

static INLINE float priority_of(float magnitude, float u) {
    float priority = magnitude / u;
    return priority < BEYOND ? priority : BEYOND;
}

static INLINE float worst_magnitude(int64 key) { return key < 0 ? 0.0f : float_of((int32)(key >> 32)); }
static INLINE int32 worst_bits(int64 key) { return key < 0 ? 0x7FFFFFFF : (int32)(0x7FFFFFFF - (key >> 32)); }

static INLINE float power_of_two(int32 exponent) { return float_of((exponent + 127) << 23); }

// x / (1 + exp(-x)), operation by operation as activation.py has it.
static INLINE float silu(float x) {
    float t = -x;
    t = t > -87.0f ? t : -87.0f;
    t = t < 89.0f ? t : 89.0f;
    const float n = (t * 1.44269504f + 12582912.0f) - 12582912.0f;
    const float r = (t - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 0.0013814535923302174f;
    p = p * r + 0.00836874544620514f;
    p = p * r + 0.04166839271783829f;
    p = p * r + 0.1666652113199234f;
    p = p * r + 0.4999999403953552f;
    p = ((p * r) * r + r) + 1.0f;
    const int32 exponent = (int32)n, half = exponent >> 1;
    p = (p * power_of_two(half)) * power_of_two(exponent - half);
    return x / (1.0f + p);
}

// The sign of a quantity within a combination.
static INLINE int sign_of(int c, int q) {
    int gate = c < 2 ? 1 : -1, into = c % 2 == 0 ? 1 : -1;
    return q == POST ? gate * into : q == INTO ? into : gate;
}

// The least magnitude that a list whose last place holds `worst` could take: what is equal can still win by its token
// number, and 0 is never listed.
static INLINE float bound_of(float worst) { return worst > 0 ? worst : 1.4e-45f; }

// Whether x_gate and x_in are finite: their product is not where either is not, and `post` is no larger.
static INLINE bool finite(float product) { return size_of(product) <= 3.4028234e38f; }

#endif
