// gpu.cu on a processor: its threads run one after the other, from the first or from the last.

#define __CUDACC__
#define __device__
#define __global__
#define __shared__ static
#define __noinline__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(threads)

struct Index {
    int x, y;
};
static Index threadIdx, blockIdx, gridDim;

template <class T> static T min(T a, T b) { return b < a ? b : a; }
template <class T> static T max(T a, T b) { return a < b ? b : a; }
template <class T, class V> static T atomicAdd(T *at, V value) { T old = *at; *at = old + value; return old; }
template <class T> static T atomicMin(T *at, T value) { T old = *at; *at = min(old, value); return old; }
template <class T> static T atomicMax(T *at, T value) { T old = *at; *at = max(old, value); return old; }
template <class T> static T atomicExch(T *at, T value) { T old = *at; *at = value; return old; }
template <class T> static T atomicCAS(T *at, T expected, T value) { T old = *at; if (old == expected) *at = value; return old; }
static void __threadfence() {}

#include "gpu.cu"

extern "C" void run(int dtype, int columns, int rows, int backwards, const Layer *layer, const Texts *texts,
                    const Rows *gate, const Rows *into, const Rows *act) {
    gridDim = {columns, rows};
    for (int step = 0; step < columns * rows * THREADS; ++step) {
        const int place = backwards ? columns * rows * THREADS - 1 - step : step;
        threadIdx = {place % THREADS, 0};
        blockIdx = {place / THREADS % columns, place / THREADS / columns};
        auto kernel = dtype == 0 ? record_float32 : dtype == 1 ? record_bfloat16 : record_float16;
        kernel(*layer, *texts, *gate, *into, *act);
    }
}
