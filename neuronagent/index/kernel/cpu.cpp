// The recorder's pass over one batch on a processor. Compiled when it is first needed (compiler.py); called with a range
// of neurons per thread.
//
// W neurons go side by side, as the lanes of vector instructions; the loops over `l` are written for the compiler to make
// such instructions of. A block of tokens is read and compared with bounds first; sums follow with their accumulators
// in registers; what reached a bound is looked at last, since it is rare once the lists are full.

#include "shared.h"

#include <cstring>

namespace {

#ifdef LEAN  // without histograms and samples, to measure what these cost
enum { FULL = 0 };
#else
enum { FULL = 1 };
#endif
enum { W = 64, BLOCK = 16, LANES = 8 };

typedef double Sums __attribute__((vector_size(LANES * sizeof(double))));
typedef int64 Codes __attribute__((vector_size(LANES * sizeof(int64))));

enum { WIDE = 16 };
typedef float Floats __attribute__((vector_size(WIDE * sizeof(float))));
typedef int32 Ints __attribute__((vector_size(WIDE * sizeof(int32))));
typedef signed char Flags __attribute__((vector_size(WIDE)));

template <class Vector> Vector wide(const void *at) {
    Vector vector;
    std::memcpy(&vector, at, sizeof(vector));
    return vector;
}

struct Rows {  // [texts, tokens, neurons] float32, neurons side by side
    const float *at;
    int64 text, token;  // strides

    const float *row(int64 b, int64 t, int64 n) const { return at + b * text + t * token + n; }
};

struct Token {  // magnitudes of post, x_in, x_gate; act; the combination; whether to look closer
    float value[QUANTITIES][W];
    int32 code[W];
    unsigned char close[W];
};

// What W neurons have seen in this batch, and what a token must reach to be looked at. Magnitudes, but for act.
struct Tile {
    double sum[COMBINATIONS][QUANTITIES][W], first[COMBINATIONS][QUANTITIES][W];  // of later tokens, of position 0
    float near[RANKED][COMBINATIONS][W], far[RANKED][COMBINATIONS][W];  // the least and the largest so far
    float low[COMBINATIONS][W], high[COMBINATIONS][W];                  // of act
    float bound[RANKED][COMBINATIONS][W];  // the least magnitude that the top list could take from this text
    float least[COMBINATIONS][W];          // the least priority that the weighted sample could take
    int32 most[COMBINATIONS][W];           // the largest hash that the uniform sample could take
    float peak[RANKED][COMBINATIONS][W];   // the largest magnitude of this text that reached its bound, else 0
    int32 at[RANKED][COMBINATIONS][W];     // and its first position
};

struct Place {  // of a tile: its first neuron, and how many there are
    int64 n0;
    int lanes;
};

// Returns whether something is not finite. Without `act` it is SiLU.
template <bool SILU>
int32 read(Token &token, const float *gate, const float *into, const float *act, const float *sign) {
    int32 flawed = 0;
    for (int l = 0; l < W; ++l) {
        const float g = gate[l], i = into[l] * sign[l], a = SILU ? silu(g) : act[l];
        flawed |= !finite(g * i);
        token.value[POST][l] = size_of(a * i);
        token.value[INTO][l] = size_of(i);
        token.value[GATE][l] = size_of(g);
        token.value[ACT][l] = a;
        const int32 code = (g > 0 ? 0 : 2) + (i > 0 ? 0 : 1);
        token.code[l] = g == 0 || i == 0 ? (int32)NONE : code;
    }
    return flawed;
}

// Marks what reaches a bound. Non-negative floats sort like their bits, so what does has no sign after subtraction.
void compare(Token &token, const Tile &tile, int32 bits, float u) {
    for (int l0 = 0; l0 < W; l0 += WIDE) {
        const Ints code = wide<Ints>(token.code + l0), is0 = code == 0, is1 = code == 1, is2 = code == 2;
        const auto of = [&](const auto(&all)[COMBINATIONS][W]) {
            const Ints last = is2 ? wide<Ints>(all[2] + l0) : wide<Ints>(all[3] + l0);
            return is0 ? wide<Ints>(all[0] + l0) : is1 ? wide<Ints>(all[1] + l0) : last;
        };
        Ints close = ~(of(tile.most) - bits);
        for (int q = 0; q < RANKED; ++q) {
            const Ints value = wide<Ints>(token.value[q] + l0);
            close |= ~(value - of(tile.bound[q])) | (value - of(tile.near[q]));
        }
        const Floats least = (Floats)of(tile.least) * (u * ALMOST), act = wide<Floats>(token.value[ACT] + l0);
        close |= ~(wide<Ints>(token.value[POST] + l0) - (Ints)least);
        close |= (act < (Floats)of(tile.low)) | (act > (Floats)of(tile.high));
        const Flags flags = __builtin_convertvector((close < 0) & (code != (int32)NONE) & 1, Flags);
        std::memcpy(token.close + l0, &flags, sizeof(flags));
    }
}

void add(double (&sum)[COMBINATIONS][QUANTITIES][W], const Token *tokens, int count) {
    for (int l0 = 0; l0 < W; l0 += LANES) {
        Sums held[COMBINATIONS][QUANTITIES];
        for (int c = 0; c < COMBINATIONS; ++c)
            for (int q = 0; q < QUANTITIES; ++q) std::memcpy(&held[c][q], sum[c][q] + l0, sizeof(Sums));
        for (int t = 0; t < count; ++t) {
            Codes code;
            Sums value[QUANTITIES];
            for (int l = 0; l < LANES; ++l) code[l] = tokens[t].code[l0 + l];
            for (int q = 0; q < QUANTITIES; ++q)
                for (int l = 0; l < LANES; ++l) value[q][l] = tokens[t].value[q][l0 + l];
            for (int c = 0; c < COMBINATIONS; ++c) {
                const Codes inside = code == c;
                for (int q = 0; q < QUANTITIES; ++q) held[c][q] = inside ? held[c][q] + value[q] : held[c][q];
            }
        }
        for (int c = 0; c < COMBINATIONS; ++c)
            for (int q = 0; q < QUANTITIES; ++q) std::memcpy(sum[c][q] + l0, &held[c][q], sizeof(Sums));
    }
}

// |post| by bin, combination and neuron; the rows after the last combination take tokens of none.
struct Histogram {
    int32 count[SPLITS][(COMBINATIONS + 1) * BINS][W];
};

void count_bins(int32 (&count)[(COMBINATIONS + 1) * BINS][W], const Token &token) {
    int32 place[W];
    for (int l = 0; l < W; ++l) place[l] = (token.code[l] * BINS + bin_of(token.value[POST][l])) * W + l;
    int32 *at = &count[0][0];
#pragma GCC ivdep  // every neuron has places of its own
    for (int l = 0; l < W; ++l) at[place[l]] = at[place[l]] + 1;
}

void add_bins(const Layer &layer, const Histogram &histogram, Place place) {
    for (int split = 0; split < SPLITS; ++split)
        for (int row = 0; row < COMBINATIONS * BINS; ++row) {
            const int32 *count = histogram.count[split][row];
            int32 any = 0;
            for (int l = 0; l < W; ++l) any |= count[l];
            if (!any) continue;
            int32 *to = layer.histogram + (place.n0 * SPLITS + split) * COMBINATIONS * BINS + row;
            for (int l = 0; l < place.lanes; ++l) to[l * SPLITS * COMBINATIONS * BINS] += count[l];
        }
}

Codes lanes(const int64 *list) {
    Codes read;
    std::memcpy(&read, list, sizeof(Codes));
    return read;
}

// Each lane's neighbour in front, in a list read from place `from`; `first` comes before the list.
Codes in_front(const int64 *list, int64 from, int64 first) {
    if (from) return lanes(list + from - 1);
    Codes read;
    for (int l = 0; l < LANES; ++l) read[l] = l ? list[l - 1] : first;
    return read;
}

// Puts an entry into its place if its key beats the last one; the key in the last place afterwards. `keys` may be the
// list itself. Without branches on where that place is, since any is as likely.
int64 insert(int64 *list, int64 *keys, int64 k, int64 entry, int64 key) {
    if (key <= keys[k - 1]) return keys[k - 1];
    int64 end = k;
    for (; end >= LANES; end -= LANES) {
        const int64 from = end - LANES;
        const Codes now = lanes(keys + from), before = in_front(keys, from, INT64_MAX);
        const Codes stays = now >= key, here = before >= key;
        if (list != keys) {
            const Codes moved = in_front(list, from, 0);
            const Codes entries = stays ? lanes(list + from) : (here ? now * 0 + entry : moved);
            std::memcpy(list + from, &entries, sizeof(Codes));
        }
        const Codes sorted = stays ? now : (here ? now * 0 + key : before);
        std::memcpy(keys + from, &sorted, sizeof(Codes));
    }
    for (int64 j = end - 1; j >= 0; --j) {
        const bool stays = keys[j] >= key, here = j == 0 || keys[j - 1] >= key;
        if (stays) break;
        if (list != keys) list[j] = here ? entry : list[j - 1];
        keys[j] = here ? key : keys[j - 1];
    }
    return keys[k - 1];
}

void widen(Tile &tile, const Token &token, int l) {
    const int c = token.code[l];
    for (int q = 0; q < RANKED; ++q)
        if (token.value[q][l] < tile.near[q][c][l]) tile.near[q][c][l] = token.value[q][l];
    if (token.value[ACT][l] < tile.low[c][l]) tile.low[c][l] = token.value[ACT][l];
    if (token.value[ACT][l] > tile.high[c][l]) tile.high[c][l] = token.value[ACT][l];
}

// Remembers a magnitude that a top list could take, if it is the largest of its text so far.
void rise(Tile &tile, const Token &token, int l, int32 position) {
    const int c = token.code[l];
    for (int q = 0; q < RANKED; ++q) {
        const float value = token.value[q][l];
        if (!(value >= tile.bound[q][c][l])) continue;
        tile.peak[q][c][l] = value;
        tile.at[q][c][l] = position;
        tile.bound[q][c][l] = float_of(bits_of(value) + 1);  // later in this text, only what is larger
    }
}

// Offers a token to both samples.
void sample(const Layer &layer, Tile &tile, const Token &token, int l, int64 n, int64 split, int64 number, int32 bits,
            float u) {
    const int64 c = token.code[l], list = ((n * SPLITS + split) * COMBINATIONS + c) * layer.k;
    const int64 cache = (split * COMBINATIONS + c) * layer.neurons + n, entry = pack(token.value[POST][l], number);
    if (bits <= tile.most[c][l]) {
        const int64 key = ((int64)(0x7FFFFFFF - bits) << 32) | (entry & LOW);
        const int64 worst = insert(layer.uniform + list, layer.uniform_keys + list, layer.k, entry, key);
        layer.worst_uniform[cache] = tile.most[c][l] = worst_bits(worst);
    }
    const float priority = priority_of(token.value[POST][l], u);
    if (priority >= tile.least[c][l]) {
        const int64 key = pack(priority, number);
        const int64 worst = insert(layer.weighted + list, layer.weighted_keys + list, layer.k, entry, key);
        layer.worst_weighted[cache] = worst_magnitude(worst);
        tile.least[c][l] = bound_of(layer.worst_weighted[cache]);
    }
}

// Position 0: only counts, sums and extremes.
void take_first(const Layer &layer, Tile &tile, const Token &token, Place place) {
    add(tile.first, &token, 1);
    for (int l = 0; l < place.lanes; ++l) {
        const int32 c = token.code[l];
        if (c == NONE) continue;
        widen(tile, token, l);
        ++layer.first_counts[(place.n0 + l) * COMBINATIONS + c];
        for (int q = 0; q < RANKED; ++q)
            if (token.value[q][l] > tile.far[q][c][l]) tile.far[q][c][l] = token.value[q][l];
    }
}

// What the lists ask for before a text is read.
void begin_text(const Layer &layer, Tile &tile, Place place, int64 split) {
    for (int64 c = 0; c < COMBINATIONS; ++c) {
        const int64 whole = c * layer.neurons + place.n0, parted = whole + split * COMBINATIONS * layer.neurons;
        for (int l = 0; l < place.lanes; ++l) {
            tile.bound[POST][c][l] = bound_of(layer.worst[POST][parted + l]);
            tile.bound[INTO][c][l] = bound_of(layer.worst[INTO][whole + l]);
            tile.bound[GATE][c][l] = bound_of(layer.worst[GATE][whole + l]);
            if (!FULL) continue;
            tile.least[c][l] = bound_of(layer.worst_weighted[parted + l]);
            tile.most[c][l] = layer.worst_uniform[parted + l];
        }
        for (int q = 0; q < RANKED; ++q)
            for (int l = 0; l < W; ++l) tile.peak[q][c][l] = 0.0f;
    }
}

// Offers the peaks of a text to the top lists.
void end_text(const Layer &layer, Tile &tile, Place place, int64 split, int64 first) {
    for (int q = 0; q < RANKED; ++q)
        for (int64 c = 0; c < COMBINATIONS; ++c)
            for (int l = 0; l < place.lanes; ++l) {
                const float peak = tile.peak[q][c][l];
                if (!(peak > 0)) continue;
                if (peak > tile.far[q][c][l]) tile.far[q][c][l] = peak;  // no list turns the largest of all away
                const int64 n = place.n0 + l, group = q == POST ? split * COMBINATIONS + c : c;
                const int64 groups = q == POST ? SPLITS * COMBINATIONS : COMBINATIONS;
                int64 *entries = layer.top[q] + (n * groups + group) * layer.k;
                const int64 entry = pack(peak, first + tile.at[q][c][l]);
                layer.worst[q][group * layer.neurons + n] =
                    worst_magnitude(insert(entries, entries, layer.k, entry, entry));
            }
}

// Extremes so far, as magnitudes. Where there is no neuron, nothing is ever near or far enough.
void begin(const Layer &layer, Tile &tile, Place place) {
    std::memset(&tile, 0, sizeof(tile));
    for (int c = 0; c < COMBINATIONS; ++c)
        for (int l = 0; l < W; ++l) {
            const bool real = l < place.lanes;
            const float *minima = layer.minima + ((place.n0 + l) * COMBINATIONS + c) * QUANTITIES;
            const float *maxima = layer.maxima + ((place.n0 + l) * COMBINATIONS + c) * QUANTITIES;
            for (int q = 0; q < RANKED; ++q) {
                const float low = real ? minima[q] : 0.0f, high = real ? maxima[q] : 0.0f;
                tile.near[q][c][l] = sign_of(c, q) > 0 ? low : -high;
                tile.far[q][c][l] = sign_of(c, q) > 0 ? high : -low;
                tile.bound[q][c][l] = BEYOND;
            }
            tile.low[c][l] = real ? minima[ACT] : 0.0f;
            tile.high[c][l] = real ? maxima[ACT] : 0.0f;
            tile.least[c][l] = BEYOND;
            tile.most[c][l] = -1;
        }
}

void end(const Layer &layer, const Tile &tile, Place place) {
    for (int l = 0; l < place.lanes; ++l)
        for (int c = 0; c < COMBINATIONS; ++c) {
            const int64 n = place.n0 + l, at = (n * COMBINATIONS + c) * QUANTITIES;
            layer.mass[n * COMBINATIONS + c] += tile.sum[c][POST][l];
            for (int q = 0; q < QUANTITIES; ++q) {
                const double sum = tile.sum[c][q][l] + tile.first[c][q][l];
                layer.sums[at + q] += q == ACT || sign_of(c, q) > 0 ? sum : -sum;
            }
            if (tile.low[c][l] > tile.high[c][l]) continue;  // nothing of this combination yet
            layer.minima[at + ACT] = tile.low[c][l];
            layer.maxima[at + ACT] = tile.high[c][l];
            for (int q = 0; q < RANKED; ++q) {
                const float near = tile.near[q][c][l];
                const float far = tile.far[q][c][l] > near ? tile.far[q][c][l] : near;  // all 0: never listed
                layer.minima[at + q] = sign_of(c, q) > 0 ? near : -far;
                layer.maxima[at + q] = sign_of(c, q) > 0 ? far : -near;
            }
        }
}

struct Reader {  // rows of a tile; where it is narrower than W, copied beside zeros
    const Rows &gate, &into, *act;  // null: SiLU
    const float *sign;
    Place place;
    float copied[4][W];

    const float *padded(int which, const float *row) {
        if (place.lanes == W) return row;
        std::memcpy(copied[which], row, place.lanes * sizeof(float));
        return copied[which];
    }

    int32 operator()(Token &token, int64 b, int64 t) {
        const float *g = gate.row(b, t, place.n0), *i = into.row(b, t, place.n0);
        for (int ahead = 0; ahead < W; ahead += 16) {  // each row is on a page of its own
            __builtin_prefetch(g + BLOCK * gate.token + ahead);
            __builtin_prefetch(i + BLOCK * into.token + ahead);
        }
        const float *s = padded(3, sign + place.n0);
        g = padded(0, g), i = padded(1, i);
        if (!act) return read<true>(token, g, i, nullptr, s);
        return read<false>(token, g, i, padded(2, act->row(b, t, place.n0)), s);
    }
};

int32 record_tile(const Layer &layer, const Texts &texts, Reader &reader) {
    const Place place = reader.place;
    Tile tile;
    Token tokens[BLOCK];
    Histogram histogram;
    int32 flawed = 0;
    begin(layer, tile, place);
    std::memset(&histogram, 0, sizeof(histogram));
    for (int64 b = 0; b < texts.count; ++b) {
        const int64 split = texts.splits[b], first = texts.first[b], length = texts.lengths[b];
        const int32 *bits = texts.bits + b * texts.width;
        const float *u = texts.u + b * texts.width;
        begin_text(layer, tile, place, split);
        flawed |= reader(tokens[0], b, 0);
        take_first(layer, tile, tokens[0], place);
        for (int64 t0 = 1; t0 < length; t0 += BLOCK) {
            const int count = length - t0 < BLOCK ? (int)(length - t0) : (int)BLOCK;
            for (int t = 0; t < count; ++t) {
                flawed |= reader(tokens[t], b, t0 + t);
                compare(tokens[t], tile, bits[t0 + t], u[t0 + t]);
                if (FULL) count_bins(histogram.count[split], tokens[t]);
            }
            add(tile.sum, tokens, count);
            for (int t = 0; t < count; ++t)
                for (int l0 = 0; l0 < W; l0 += 8) {
                    uint64 close;  // eight flags at once: most are 0
                    std::memcpy(&close, tokens[t].close + l0, 8);
                    for (; close; close &= close - 1) {
                        const int l = l0 + __builtin_ctzll(close) / 8;
                        widen(tile, tokens[t], l);
                        rise(tile, tokens[t], l, (int32)(t0 + t));
                        if (FULL) sample(layer, tile, tokens[t], l, place.n0 + l, split, first + t0 + t, bits[t0 + t],
                                   u[t0 + t]);
                    }
                }
        }
        end_text(layer, tile, place, split, first);
    }
    end(layer, tile, place);
    add_bins(layer, histogram, place);
    return flawed;
}

}  // namespace

// Records neurons begin to end of a batch; 1 if an activation is not finite.
extern "C" int32 neuronagent_record(const Layer *layer, const Texts *texts, const Rows *gate, const Rows *into,
                                    const Rows *act, int64 begin, int64 end) {
    int32 flawed = 0;
    for (int64 n0 = begin; n0 < end; n0 += W) {
        Reader reader = {*gate, *into, act, layer->sign, {n0, end - n0 < W ? (int)(end - n0) : (int)W}, {}};
        flawed |= record_tile(*layer, *texts, reader);
    }
    return flawed;
}
