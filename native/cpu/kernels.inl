// The inner loops, written once with the compiler's vector types (GCC and Clang) and compiled for each instruction set
// by a kernels_*.cpp that sets KERNEL_NAMESPACE, KERNEL_NAME, VW (floats per vector), TILE_ROWS, TILE_BLOCKS,
// SINGLE_BLOCK_TILES (tiles multiplied at once for a single lane block) and PANEL_WIDTH.
//
// Every sum runs in one order that depends only on the shape, never on the number of threads or on how many lane blocks
// a call takes: for each output element, over the depth, one multiply-add after another (fused where the CPU has it).
#include <cmath>
#include <cstring>
#include <type_traits>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "core/random.h"
#include "cpu/kernels.h"
#include "cpu/shuffle.h"

namespace cudnn_lstm::cpu {
namespace KERNEL_NAMESPACE {

typedef float vf __attribute__((vector_size(VW * 4)));
typedef std::int32_t vi __attribute__((vector_size(VW * 4)));
typedef std::uint32_t vu __attribute__((vector_size(VW * 4)));
typedef float vf_unaligned __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef std::uint32_t vu_unaligned __attribute__((vector_size(VW * 4), aligned(4), may_alias));

constexpr int kVectors = kLanes / VW;  // vectors in 16 lanes
constexpr int kRows = TILE_ROWS;
static_assert(TILE_ROWS <= kMaxTileRows && TILE_BLOCKS <= kMaxTileBlocks && PANEL_WIDTH <= kMaxPanelWidth);

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

INLINE vf load(const float* p) { return *reinterpret_cast<const vf_unaligned*>(p); }
INLINE void store(float* p, vf v) { *reinterpret_cast<vf_unaligned*>(p) = v; }
INLINE vu load(const Bf16Pair* p) { return *reinterpret_cast<const vu_unaligned*>(p); }
INLINE void store(Bf16Pair* p, vu v) { *reinterpret_cast<vu_unaligned*>(p) = v; }
INLINE vf splat(float x) { return x - vf{}; }
INLINE vu splat(Bf16Pair x) { return x - vu{}; }
INLINE vi splat_int(std::int32_t x) { return x - vi{}; }
INLINE vf select(vi mask, vf a, vf b) { return mask ? a : b; }
// a > b ? a : b and a < b ? a : b, hence b if either is a NaN: one instruction on x86, for which compilers emit two.
INLINE vf max(vf a, vf b) {
#if VW == 16 && defined(__AVX512F__)
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif VW == 8 && defined(__AVX__)
  return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif VW == 4 && defined(__SSE__)
  return (vf)_mm_max_ps((__m128)a, (__m128)b);
#else
  return select(a > b, a, b);
#endif
}
INLINE vf min(vf a, vf b) {
#if VW == 16 && defined(__AVX512F__)
  return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif VW == 8 && defined(__AVX__)
  return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#elif VW == 4 && defined(__SSE__)
  return (vf)_mm_min_ps((__m128)a, (__m128)b);
#else
  return select(a < b, a, b);
#endif
}

// ---- Elementwise functions. native/cpu/selftest.cpp compares sigmoid and hyperbolic_tangent with libm in double, on a
// grid: at most 4 ulp.

// exp(x), after Cephes' expf: x = n ln 2 + r, |r| <= ln 2 / 2, a degree-6 polynomial in r, the exponent added as bits.
// x is at most 88, as the caller knows, which saves a bound.
INLINE vf exponential_of_bounded(vf x) {
  // The order of the operands lets a NaN through: an exploded step must show in its loss.
  x = max(splat(-87.0f), x);
  const vf magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const vf shifted = x * splat(1.44269504088896341f) + magic;
  const vf n = shifted - magic;
  vf r = x - n * splat(0.693359375f);
  r = r - n * splat(-2.12194440e-4f);
  vf p = splat(1.9875691500e-4f);
  p = p * r + splat(1.3981999507e-3f);
  p = p * r + splat(8.3334519073e-3f);
  p = p * r + splat(4.1665795894e-2f);
  p = p * r + splat(1.6666665459e-1f);
  p = p * r + splat(5.0000001201e-1f);
  const vf square = r * r;
  p = p * square + r;
  p = p + splat(1.0f);
  const vi exponent = ((vi)shifted - (vi)magic) << 23;
  return (vf)((vi)p + exponent);
}

INLINE vf exponential(vf x) { return exponential_of_bounded(min(splat(88.0f), x)); }

// min(max(slope x + 0.5, 0), 1); the order of the operands lets a NaN through.
INLINE vf hard_sigmoid(vf x, vf slope) { return min(splat(1.0f), max(splat(0.0f), x * slope + splat(0.5f))); }

// Its derivative in terms of its value: zero where it is cut off.
INLINE vf hard_sigmoid_slope(vf y, vf slope) { return (vf)((vi)slope & (y > splat(0.0f)) & (y < splat(1.0f))); }

INLINE vf sigmoid(vf x) { return splat(1.0f) / (splat(1.0f) + exponential(-x)); }

// tanh(x), after Cephes' tanhf: an odd polynomial near zero, where the quotient would cancel; else (1 - e) / (1 + e)
// with e = exp(-2|x|).
INLINE vf hyperbolic_tangent(vf x) {
  const vi sign_bit = splat_int(static_cast<std::int32_t>(0x80000000u));
  const vi sign = (vi)x & sign_bit;
  const vf magnitude = (vf)((vi)x & ~sign_bit);
  const vf e = exponential_of_bounded(magnitude * splat(-2.0f));
  const vf far = (splat(1.0f) - e) / (splat(1.0f) + e);
  const vf square = x * x;
  vf p = splat(-5.70498872745e-3f);
  p = p * square + splat(2.06390887954e-2f);
  p = p * square + splat(-5.37397155531e-2f);
  p = p * square + splat(1.33314422036e-1f);
  p = p * square + splat(-3.33332819422e-1f);
  p = p * square;
  const vf near = p * x + x;
  return select(magnitude < splat(0.625f), near, (vf)((vi)far | sign));
}

// ---- Numbers in bfloat16. As with the AVX512-BF16 instructions, numbers too small to be normal floats become zero,
// and a sum of products begins with the second of a pair: without those instructions, results are the same except for
// sums that they would flush to zero.

typedef std::uint16_t vh __attribute__((vector_size(VW * 2)));
typedef std::uint16_t vh_unaligned __attribute__((vector_size(VW * 2), aligned(2), may_alias));

#if VW == 16 && defined(__AVX512BF16__)
constexpr bool kHasBf16 = true;

// Rounds to nearest, ties to even; numbers that are too large become infinite, a NaN stays one.
INLINE vh round_to_bf16(vf x) { return (vh)_mm512_cvtneps_pbh((__m512)x); }

INLINE vu pair_of(vf first, vf second) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return (vu)_mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first));
}

// Pairs two consecutive rows of half a vector each: tiles of eight rows are packed this way.
INLINE void round_two_rows(const float* rows, Bf16Pair* out) {
  const __m256i order = _mm256_set_epi16(15, 7, 14, 6, 13, 5, 12, 4, 11, 3, 10, 2, 9, 1, 8, 0);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                      _mm256_permutexvar_epi16(order, (__m256i)round_to_bf16(load(rows))));
}
#else
constexpr bool kHasBf16 = false;

// The same rounding, in the upper halves of floats.
INLINE vu upper_halves(vf x) {
  const vu bits = (vu)x;
  const vu magnitude = bits & splat(Bf16Pair{0x7fffffffu});
  vu rounded = bits + splat(Bf16Pair{0x7fffu}) + ((bits >> 16) & splat(Bf16Pair{1}));
  rounded = (vi)magnitude > splat_int(0x7f800000) ? bits | splat(Bf16Pair{0x00400000u}) : rounded;
  rounded = (vi)magnitude < splat_int(0x00800000) ? bits & splat(Bf16Pair{0x80000000u}) : rounded;
  return rounded & splat(Bf16Pair{0xffff0000u});
}

INLINE vh round_to_bf16(vf x) { return __builtin_convertvector(upper_halves(x) >> 16, vh); }
INLINE vu pair_of(vf first, vf second) { return (upper_halves(first) >> 16) | upper_halves(second); }
INLINE void round_two_rows(const float* rows, Bf16Pair* out) {
  Bf16Pair halves[VW];
  store(halves, upper_halves(load(rows)));
  for (int i = 0; i < VW / 2; ++i) out[i] = (halves[i] >> 16) | halves[VW / 2 + i];
}
#endif

INLINE vf first_of(vu pairs) { return (vf)(pairs << 16); }
INLINE vf second_of(vu pairs) { return (vf)(pairs & splat(Bf16Pair{0xffff0000u})); }

void round_rows(const float* x, int depth, int width, Bf16Pair* out) {
  for (int k = 0; k < depth; k += 2) {
    const float* const first = x + static_cast<std::size_t>(k) * width;
    const bool whole = k + 1 < depth;
    int i = 0;
    if (2 * width == VW && whole) {
      round_two_rows(first, out);
      i = width;
    }
    for (; i + VW <= width; i += VW) store(out + i, pair_of(load(first + i), whole ? load(first + width + i) : vf{}));
    if (i < width) {
      float rest[2][VW] = {};
      Bf16Pair pairs[VW];
      const std::size_t bytes = static_cast<std::size_t>(width - i) * sizeof(float);
      std::memcpy(rest[0], first + i, bytes);
      if (whole) std::memcpy(rest[1], first + width + i, bytes);
      store(pairs, pair_of(load(rest[0]), load(rest[1])));
      std::memcpy(out + i, pairs, bytes);
    }
    out += width;
  }
}

// Neighbouring lanes form a pair, so the halves are where they belong.
void round_tile(TileRows x, int rows, Bf16Pair* out) {
  for (int i = 0; i < rows * kLanes; i += VW) {
    *reinterpret_cast<vh_unaligned*>(out + i / 2) = round_to_bf16(load(x.data() + i));
  }
}

// ---- Products.

// sum[r][j] += row(r) * b[j], one step along the depth.
template <int Rows, int Vectors, class Row>
INLINE void multiply_step(vf (&sum)[Rows][Vectors], const Row& row, const vu (&b)[Vectors]) {
#if VW == 16 && defined(__AVX512BF16__)
#pragma GCC unroll 24
  for (int r = 0; r < Rows; ++r) {
    const vu value = splat(row(r));
#pragma GCC unroll 8
    for (int j = 0; j < Vectors; ++j) {
      sum[r][j] = (vf)_mm512_dpbf16_ps((__m512)sum[r][j], (__m512bh)value, (__m512bh)b[j]);
    }
  }
#else
  // In two passes over the rows, since the registers hold only one half of b besides the sums.
  vf half[Vectors];
#pragma GCC unroll 8
  for (int j = 0; j < Vectors; ++j) half[j] = second_of(b[j]);
#pragma GCC unroll 24
  for (int r = 0; r < Rows; ++r) {
    const vf value = second_of(splat(row(r)));
#pragma GCC unroll 8
    for (int j = 0; j < Vectors; ++j) sum[r][j] += value * half[j];
  }
#pragma GCC unroll 8
  for (int j = 0; j < Vectors; ++j) half[j] = first_of(b[j]);
#pragma GCC unroll 24
  for (int r = 0; r < Rows; ++r) {
    const vf value = first_of(splat(row(r)));
#pragma GCC unroll 8
    for (int j = 0; j < Vectors; ++j) sum[r][j] += value * half[j];
  }
#endif
}

template <int Rows, int Vectors, class Row>
INLINE void multiply_step(vf (&sum)[Rows][Vectors], const Row& row, const vf (&b)[Vectors]) {
#pragma GCC unroll 24
  for (int r = 0; r < Rows; ++r) {
    const vf value = splat(row(r));
#pragma GCC unroll 8
    for (int j = 0; j < Vectors; ++j) sum[r][j] += value * b[j];
  }
}

// Vectors of floats or of pairs.
template <class Number>
using VectorOf = std::conditional_t<std::is_same_v<Number, Bf16Pair>, vu, vf>;

// Multiplies `Tiles` tiles stacked vertically, each [depth][kRows], from `tiles` on, by `Blocks` lane blocks.
template <int Tiles, int Blocks, class Number>
INLINE void tile_product_of(const TileProduct<Number>& t, const Number* tiles) {
  constexpr int kTall = Tiles * kRows;
  vf sum[kTall][Blocks * kVectors];
  if (t.initial != nullptr) {
#pragma GCC unroll 24
    for (int r = 0; r < kTall; ++r) {
      const vf start = splat(r < t.rows ? t.initial[r] : 0.0f);
#pragma GCC unroll 8
      for (int j = 0; j < Blocks * kVectors; ++j) sum[r][j] = start;
    }
  } else {
#pragma GCC unroll 24
    for (int r = 0; r < kTall; ++r) {
      const bool from_c = !t.zero && r < t.rows;
#pragma GCC unroll 8
      for (int j = 0; j < Blocks * kVectors; ++j) {
        sum[r][j] = from_c ? load(t.c[j / kVectors] + r * kLanes + (j % kVectors) * VW) : vf{};
      }
    }
  }
  const Number* a[Tiles];
  for (int i = 0; i < Tiles; ++i) a[i] = tiles + static_cast<std::size_t>(i) * kRows * t.depth;
  const Number* b0 = t.b[0];
  const Number* b1 = Blocks > 1 ? t.b[1] : nullptr;
  for (int k = 0; k < t.depth; ++k) {
    VectorOf<Number> b[Blocks * kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) b[j] = load(b0 + j * VW);
    if constexpr (Blocks > 1) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) b[kVectors + j] = load(b1 + j * VW);
      b1 += kLanes;
    }
    multiply_step(
        sum, [&](int r) INLINE_LAMBDA { return a[r / kRows][r % kRows]; }, b);
#pragma GCC unroll 3
    for (int i = 0; i < Tiles; ++i) a[i] += kRows;
    b0 += kLanes;
  }
#pragma GCC unroll 24
  for (int r = 0; r < kTall; ++r) {
    if (r < t.rows) {
#pragma GCC unroll 8
      for (int j = 0; j < Blocks * kVectors; ++j) {
        store(t.c[j / kVectors] + r * kLanes + (j % kVectors) * VW, sum[r][j]);
      }
    }
  }
}

// Processes `Tiles` tiles from `a` on and moves `a`, `t` and the counts past them.
template <int Tiles, int Blocks, class Number>
void take_tiles(const Number*& a, TileProduct<Number>& t, int& tiles, int& rows) {
  t.rows = rows < Tiles * kRows ? rows : Tiles * kRows;
  tile_product_of<Tiles, Blocks>(t, a);
  tiles -= Tiles;
  rows -= Tiles * kRows;
  a += static_cast<std::size_t>(Tiles) * kRows * t.depth;
  for (int j = 0; j < Blocks; ++j) t.c[j] += Tiles * kRows * kLanes;
  if (t.initial != nullptr) t.initial += Tiles * kRows;
}

template <class Number>
void tile_products(TileProduct<Number> t, int tiles, int rows) {
  const Number* a = t.a.data();
  if constexpr (TILE_BLOCKS > 1) {
    if (t.blocks == 2) {
      while (tiles > 0) take_tiles<1, 2>(a, t, tiles, rows);
      return;
    }
  }
  while (tiles >= SINGLE_BLOCK_TILES) take_tiles<SINGLE_BLOCK_TILES, 1>(a, t, tiles, rows);
  while (tiles > 0) take_tiles<1, 1>(a, t, tiles, rows);
}

template <class Number, class Rows>
void gradient_tile(const GradientTile<Number, Rows>& t) {
  constexpr int kColumns = PANEL_WIDTH / VW;
  constexpr int kSteps = depth_steps<Number>(kLanes);
  vf sum[kRows][kColumns] = {};
  const Number* x = t.x.data();
  for (int p = 0; p < t.pairs; ++p) {
    const Number* a = t.a[p].data();
    if (std::is_same_v<Number, float> && p + 1 < t.pairs) {
      // The next pair's rows lie a whole tick away, which no hardware prefetcher follows.
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) __builtin_prefetch(t.a[p + 1].data() + r * kSteps);
    }
    for (int step = 0; step < kSteps; ++step) {
      VectorOf<Number> columns[kColumns];
#pragma GCC unroll 8
      for (int j = 0; j < kColumns; ++j) columns[j] = load(x + j * VW);
      multiply_step(
          sum, [&](int r) INLINE_LAMBDA { return a[r * kSteps + step]; }, columns);
      x += PANEL_WIDTH;
    }
  }
  if (t.columns == PANEL_WIDTH) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      if (r >= t.rows) continue;
      float* c = t.c[r];
#pragma GCC unroll 8
      for (int j = 0; j < kColumns; ++j) store(c + j * VW, load(c + j * VW) + sum[r][j]);
    }
  } else {
    alignas(64) float spill[kRows][PANEL_WIDTH];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int j = 0; j < kColumns; ++j) store(spill[r] + j * VW, sum[r][j]);
    }
    for (int r = 0; r < t.rows; ++r)
      for (int j = 0; j < t.columns; ++j) t.c[r][j] += spill[r][j];
  }
}

typedef float v4 __attribute__((vector_size(16)));
typedef float v4_unaligned __attribute__((vector_size(16), aligned(4), may_alias));

void transpose_block(SquareRows in, SquareTarget out) {
  const int stride = out.stride();
  for (int i = 0; i < 16; i += 4) {
    for (int j = 0; j < 16; j += 4) {
      const float* from = in.data() + i * 16 + j;
      const v4 r0 = *reinterpret_cast<const v4_unaligned*>(from);
      const v4 r1 = *reinterpret_cast<const v4_unaligned*>(from + 16);
      const v4 r2 = *reinterpret_cast<const v4_unaligned*>(from + 32);
      const v4 r3 = *reinterpret_cast<const v4_unaligned*>(from + 48);
      const v4 a = SHUFFLE_FOUR(r0, r1, 0, 4, 1, 5);
      const v4 b = SHUFFLE_FOUR(r0, r1, 2, 6, 3, 7);
      const v4 c = SHUFFLE_FOUR(r2, r3, 0, 4, 1, 5);
      const v4 d = SHUFFLE_FOUR(r2, r3, 2, 6, 3, 7);
      float* to = out.data() + j * stride + i;
      *reinterpret_cast<v4_unaligned*>(to) = SHUFFLE_FOUR(a, c, 0, 1, 4, 5);
      *reinterpret_cast<v4_unaligned*>(to + stride) = SHUFFLE_FOUR(a, c, 2, 3, 6, 7);
      *reinterpret_cast<v4_unaligned*>(to + 2 * stride) = SHUFFLE_FOUR(b, d, 0, 1, 4, 5);
      *reinterpret_cast<v4_unaligned*>(to + 3 * stride) = SHUFFLE_FOUR(b, d, 2, 3, 6, 7);
    }
  }
}

// ---- The gate stage.

// All ones in the lanes of vector j whose bit is set.
INLINE vi keep_lanes(std::uint16_t keep, int j) {
  vi bits;
#pragma GCC unroll 16
  for (int lane = 0; lane < VW; ++lane) bits[lane] = 1 << lane;
  bits = bits << (j * VW);
  return (splat_int(keep) & bits) != 0;
}

// One LSTM cell (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000):
//   c = f * c_before + i * g,  h = o * tanh(c),  i, f, o = sigmoid, g = tanh of their pre-activations;
// if Hard, a straight line between 0 and 1 replaces the sigmoid. Computes all but h. Returns c.
template <bool Hard>
INLINE vf open_gates(vf& i, vf& f, vf& g, vf& o, vf c_before, vf slope) {
  i = Hard ? hard_sigmoid(i, slope) : sigmoid(i);
  f = Hard ? hard_sigmoid(f, slope) : sigmoid(f);
  g = hyperbolic_tangent(g);
  o = Hard ? hard_sigmoid(o, slope) : sigmoid(o);
  const vf written = i * g;
  return f * c_before + written;
}

// In two passes, c and then h: in a single pass, each unit's chain of dependent operations is too long to be hidden by
// the next unit's.
template <bool Hard>
INLINE void gate_forward_of(const GateForward& s) {
  const vf slope = splat(s.slope);
  for (int u = 0; u < s.units; ++u) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      const int at = u * kLanes + j * VW;
      float* gates = s.gates + u * 4 * kLanes + j * VW;
      vf i = load(gates), f = load(gates + kLanes), g = load(gates + 2 * kLanes), o = load(gates + 3 * kLanes);
      const vf c = open_gates<Hard>(i, f, g, o, load(s.c_before + at), slope);
      store(gates, i);
      store(gates + kLanes, f);
      store(gates + 2 * kLanes, g);
      store(gates + 3 * kLanes, o);
      store(s.c + at, c);
    }
  }
  const vf scale = splat(s.keep_scale);
  for (int u = 0; u < s.units; ++u) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      const int at = u * kLanes + j * VW;
      const vf h = load(s.gates + (u * 4 + 3) * kLanes + j * VW) * hyperbolic_tangent(load(s.c + at));
      store(s.h + at, h);
      if (s.h_dropped != nullptr) store(s.h_dropped + at, (vf)((vi)(h * scale) & keep_lanes(s.keep[u], j)));
    }
  }
}

void gate_forward(const GateForward& s) {
  if (s.slope == 0) {
    gate_forward_of<false>(s);
  } else {
    gate_forward_of<true>(s);
  }
}

template <bool Hard>
INLINE void gate_backward_of(const GateBackward& s) {
  const vf slope = splat(s.slope);
  const vf one = splat(1.0f);
  const vf scale = splat(s.keep_scale);
  for (int u = 0; u < s.units; ++u) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      const int at = u * kLanes + j * VW;
      float* gates = s.gates + u * 4 * kLanes + j * VW;
      const vf i = load(gates), f = load(gates + kLanes), g = load(gates + 2 * kLanes), o = load(gates + 3 * kLanes);
      vf dh = s.dh_above != nullptr ? load(s.dh_above + at) : vf{};
      if (s.keep != nullptr) dh = (vf)((vi)(dh * scale) & keep_lanes(s.keep[u], j));
      if (s.dh_recurrent != nullptr) dh = dh + load(s.dh_recurrent + at);
      const vf c_tanh = hyperbolic_tangent(load(s.c + at));
      const vf through = one - c_tanh * c_tanh;
      const vf dh_o = dh * o;
      const vf dc = dh_o * through + load(s.dc + at);
      const vf i_slope = Hard ? hard_sigmoid_slope(i, slope) : i - i * i;
      const vf f_slope = Hard ? hard_sigmoid_slope(f, slope) : f - f * f;
      const vf o_slope = Hard ? hard_sigmoid_slope(o, slope) : o - o * o;
      const vf g_slope = one - g * g;
      store(gates, dc * g * i_slope);
      store(gates + kLanes, dc * load(s.c_before + at) * f_slope);
      store(gates + 2 * kLanes, dc * i * g_slope);
      store(gates + 3 * kLanes, dh * c_tanh * o_slope);
      store(s.dc + at, dc * f);
    }
  }
}

void gate_backward(const GateBackward& s) {
  if (s.slope == 0) {
    gate_backward_of<false>(s);
  } else {
    gate_backward_of<true>(s);
  }
}

typedef std::uint64_t vq __attribute__((vector_size(VW * 4)));

// The 64-bit products of the even elements of a with m.
INLINE vq multiply_even(vu a, vu m) {
#if VW == 16 && defined(__AVX512F__)
  return (vq)_mm512_mul_epu32((__m512i)a, (__m512i)m);
#elif VW == 8 && defined(__AVX2__)
  return (vq)_mm256_mul_epu32((__m256i)a, (__m256i)m);
#elif VW == 4 && defined(__SSE2__)
  return (vq)_mm_mul_epu32((__m128i)a, (__m128i)m);
#else
  const vq low = 0xffffffffu - vq{};
  return ((vq)a & low) * ((vq)m & low);
#endif
}

INLINE void multiply_wide(vu a, std::uint32_t factor, vu& high, vu& low) {
  const vu m = factor - vu{};
  const vq even = multiply_even(a, m);
  const vq odd = multiply_even((vu)((vq)a >> 32), m);
  const vq low_half = 0xffffffffu - vq{};
  low = (vu)((even & low_half) | (odd << 32));
  high = (vu)((even >> 32) | (odd & ~low_half));
}

// Philox4x32-10 on VW counters, for the two halves of 16 lanes at once so that one's latency hides the other's.
INLINE void philox_pair(vu first, const DropoutMask& m, PhiloxKey key, vu (&out)[2][4]) {
  for (int half = 0; half < 2; ++half) {
    out[half][0] = first + (half - vu{});
    out[half][1] = m.tick - vu{};
    out[half][2] = (m.block + (m.layer << 20)) - vu{};
    out[half][3] = static_cast<std::uint32_t>(m.step) - vu{};
  }
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      vu(&x)[4] = out[half];
      vu high0, low0, high1, low1;
      multiply_wide(x[0], 0xD2511F53u, high0, low0);
      multiply_wide(x[2], 0xCD9E8D57u, high1, low1);
      x[0] = high1 ^ x[1] ^ (key.word[0] - vu{});
      x[2] = high0 ^ x[3] ^ (key.word[1] - vu{});
      x[1] = low1;
      x[3] = low0;
    }
    key.word[0] += 0x9E3779B9u;
    key.word[1] += 0xBB67AE85u;
  }
}

// Lane b of unit u is kept if its 16 random bits are below the threshold. Counter: (2u + half, tick, block + layer *
// 2^20, step), key: the seed with the step's high word mixed in; half h holds lanes 8h..8h+7, two to a word, low bits
// first.
void dropout_mask(const DropoutMask& m, std::uint16_t* keep) {
  PhiloxKey key = philox_key(m.seed);
  key.word[1] ^= static_cast<std::uint32_t>(m.step >> 32);
  vu count;
#pragma GCC unroll 16
  for (int i = 0; i < VW; ++i) count[i] = 2 * i;
  const vu threshold = m.threshold - vu{};
  for (int u = 0; u < m.units; u += VW) {
    vu words[2][4];
    philox_pair(count + (static_cast<std::uint32_t>(m.first_unit + u) * 2 - vu{}), m, key, words);
    vu bits = {};
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 4
      for (int w = 0; w < 4; ++w) {
        const int lane = half * 8 + w * 2;
        bits |= (vu)((words[half][w] & (0xffffu - vu{})) < threshold) & ((1u << lane) - vu{});
        bits |= (vu)((words[half][w] >> 16) < threshold) & ((1u << (lane + 1)) - vu{});
      }
    }
    const int units = m.units - u < VW ? m.units - u : VW;
    for (int i = 0; i < units; ++i) keep[u + i] = static_cast<std::uint16_t>(bits[i]);
  }
}

void apply_mask(const float* x, const std::uint16_t* keep, float scale, int units, float* y) {
  const vf factor = splat(scale);
  for (int u = 0; u < units; ++u) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      const int at = u * kLanes + j * VW;
      store(y + at, (vf)((vi)(load(x + at) * factor) & keep_lanes(keep[u], j)));
    }
  }
}

// ---- Output.

INLINE vf logarithm_lanes(vf x) {
  // 16 per target block: libm, lane by lane, costs nothing compared with the product before it.
  vf y;
  for (int i = 0; i < VW; ++i) y[i] = std::log(static_cast<float>(x[i]));
  return y;
}

void softmax_loss(float* logits, int rows, const std::int32_t* targets, int lanes, float scale, bool gradient,
                  float* loss) {
  alignas(64) float target_logit[kLanes];
  for (int lane = 0; lane < kLanes; ++lane)
    target_logit[lane] = lane < lanes ? logits[targets[lane] * kLanes + lane] : 0.0f;
  alignas(64) float lane_scale[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) lane_scale[lane] = lane < lanes ? scale : 0.0f;
  for (int j = 0; j < kVectors; ++j) {
    float* column = logits + j * VW;
    vf largest = load(column);
    for (int r = 1; r < rows; ++r) largest = max(largest, load(column + r * kLanes));
    vf total = {};
    for (int r = 0; r < rows; ++r) {
      const vf e = exponential(load(column + r * kLanes) - largest);
      total = total + e;
      if (gradient) store(column + r * kLanes, e);
    }
    const vf nats = logarithm_lanes(total) + largest - load(target_logit + j * VW);
    for (int i = 0; i < VW; ++i) {
      const int lane = j * VW + i;
      if (lane < lanes) loss[lane] = nats[i];
    }
    if (gradient) {
      const vf factor = load(lane_scale + j * VW) / total;
      for (int r = 0; r < rows; ++r) store(column + r * kLanes, load(column + r * kLanes) * factor);
    }
  }
  if (gradient) {
    for (int lane = 0; lane < lanes; ++lane) logits[targets[lane] * kLanes + lane] -= scale;
  }
}

// ---- One sequence.

void matrix_vector(MatrixPanels<float> a, int panels, int depth, const float* x, ConstPanelRows initial,
                   PanelRows out) {
  constexpr int kPanelVectors = kPanelRows / VW;
  constexpr int kGroup =
      kPanelVectors < 8 ? kPanelVectors : 8;  // vectors summed at once, so that the sums stay in registers
  for (int row = 0; row < panels * kPanelRows; row += kPanelRows) {
    for (int group = 0; group < kPanelVectors; group += kGroup) {
      vf sum[kGroup];
      const int at = row + group * VW;
#pragma GCC unroll 8
      for (int j = 0; j < kGroup; ++j) sum[j] = load(initial.data() + at + j * VW);
      const float* column = a.data() + static_cast<std::size_t>(row) * depth + group * VW;
      for (int k = 0; k < depth; ++k) {
        const vf value = splat(x[k]);
#pragma GCC unroll 8
        for (int j = 0; j < kGroup; ++j) sum[j] += value * load(column + j * VW);
        column += kPanelRows;
      }
#pragma GCC unroll 8
      for (int j = 0; j < kGroup; ++j) store(out.data() + at + j * VW, sum[j]);
    }
  }
}

// Below, vectors of narrow numbers are widened to floats.
typedef std::int8_t narrow_bytes __attribute__((vector_size(VW), aligned(1), may_alias));

INLINE vf widen(const std::int8_t* p) {
#if VW == 16 && defined(__AVX512F__)
  return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif VW == 8 && defined(__AVX2__)
  return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#elif VW == 4 && defined(__SSE2__)
  std::int32_t four;
  std::memcpy(&four, p, sizeof four);
  const __m128i bytes = _mm_cvtsi32_si128(four);
  const __m128i halves = _mm_unpacklo_epi8(bytes, bytes);  // each byte twice, then four times: the shift sign-extends
  return (vf)_mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(halves, halves), 24));
#else
  return __builtin_convertvector(*reinterpret_cast<const narrow_bytes*>(p), vf);
#endif
}

INLINE vf widen(const std::uint16_t* p) {
#if VW == 16 && defined(__AVX512F__)
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
#elif VW == 8 && defined(__AVX2__)
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16);
#elif VW == 4 && defined(__SSE2__)
  return (vf)_mm_unpacklo_epi16(_mm_setzero_si128(), _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
  return (vf)(__builtin_convertvector(*reinterpret_cast<const vh_unaligned*>(p), vu) << 16);
#endif
}

// finish(row, sums) returns what is stored for a vector of rows.
template <class Narrow, class Start, class Finish>
INLINE void narrow_matrix_vector(MatrixPanels<Narrow> a, int panels, int depth, const float* x, PanelRows out,
                                 const Start& start, const Finish& finish) {
  constexpr int kPanelVectors = kPanelRows / VW;
  constexpr int kGroup = kPanelVectors < 8 ? kPanelVectors : 8;
  for (int row = 0; row < panels * kPanelRows; row += kPanelRows) {
    for (int group = 0; group < kPanelVectors; group += kGroup) {
      vf sum[kGroup];
      const int at = row + group * VW;
#pragma GCC unroll 8
      for (int j = 0; j < kGroup; ++j) sum[j] = start(at + j * VW);
      const Narrow* column = a.data() + static_cast<std::size_t>(row) * depth + group * VW;
      for (int k = 0; k < depth; ++k) {
        const vf value = splat(x[k]);
#pragma GCC unroll 8
        for (int j = 0; j < kGroup; ++j) sum[j] += value * widen(column + j * VW);
        column += kPanelRows;
      }
#pragma GCC unroll 8
      for (int j = 0; j < kGroup; ++j) store(out.data() + at + j * VW, finish(at + j * VW, sum[j]));
    }
  }
}

void matrix_vector_bf16(MatrixPanels<std::uint16_t> a, int panels, int depth, const float* x, ConstPanelRows initial,
                        PanelRows out) {
  narrow_matrix_vector(
      a, panels, depth, x, out, [&](int row) { return load(initial.data() + row); }, [](int, vf sum) { return sum; });
}

void matrix_vector_int8(MatrixPanels<std::int8_t> a, ConstPanelRows scales, int panels, int depth, const float* x,
                        ConstPanelRows initial, PanelRows out) {
  narrow_matrix_vector(
      a, panels, depth, x, out, [](int) { return vf{}; },
      [&](int row, vf sum) { return load(initial.data() + row) + sum * load(scales.data() + row); });
}

template <bool Hard>
INLINE void gate_single_of(int units, float line, const float* gates, float* c, float* h) {
  const vf slope = splat(line);
  for (int u = 0; u < units; u += VW) {
    vf i = {}, f = {}, g = {}, o = {}, c_before = {};
    const int count = units - u < VW ? units - u : VW;
    for (int n = 0; n < count; ++n) {
      const float* unit = gates + 4 * (u + n);
      i[n] = unit[0];
      f[n] = unit[1];
      g[n] = unit[2];
      o[n] = unit[3];
      c_before[n] = c[u + n];
    }
    const vf c_after = open_gates<Hard>(i, f, g, o, c_before, slope);
    const vf h_after = o * hyperbolic_tangent(c_after);
    for (int n = 0; n < count; ++n) {
      c[u + n] = c_after[n];
      h[u + n] = h_after[n];
    }
  }
}

void gate_single(int units, float slope, const float* gates, float* c, float* h) {
  if (slope == 0) {
    gate_single_of<false>(units, slope, gates, c, h);
  } else {
    gate_single_of<true>(units, slope, gates, c, h);
  }
}

// ---- The optimiser.

double sum_of_squares(const float* x, std::size_t count) {
  double partial[16] = {};
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16)
    for (int j = 0; j < 16; ++j) partial[j] += static_cast<double>(x[i + j]) * x[i + j];
  double total = 0;
  for (double value : partial) total += value;
  for (; i < count; ++i) total += static_cast<double>(x[i]) * x[i];
  return total;
}

INLINE vf square_root(vf x) {
#if defined(__clang__)
  vf y;
  for (int i = 0; i < VW; ++i) y[i] = __builtin_sqrtf(x[i]);
  return y;
#else
  vf y;
#pragma GCC unroll 16
  for (int i = 0; i < VW; ++i) y[i] = __builtin_sqrtf(x[i]);
  return y;
#endif
}

void update(const UpdateConstants& constants, float scale, const float* g, float* first, float* second, float* p,
            std::size_t count) {
  with_rule(constants.optimizer, [=](auto rule) {
    using Rule = decltype(rule);
    for (std::size_t i = 0; i < count; ++i) {
      update_parameter<Rule>(constants, g[i] * scale, Rule::kFirst ? first + i : nullptr,
                             Rule::kSecond ? second + i : nullptr, p + i);
    }
  });
}

void sum_rows(const TileRows* dy, const float* const* x, int pairs, int rows, float* sums, float* scaled) {
  for (int r = 0; r < rows; ++r) {
    vf sum[kVectors] = {}, product[kVectors] = {};
    for (int p = 0; p < pairs; ++p) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        const vf value = load(dy[p].data() + r * kLanes + j * VW);
        sum[j] = sum[j] + value;
        if (x != nullptr) product[j] += value * load(x[p] + j * VW);
      }
    }
    float total = 0, scaled_total = 0;
    for (int j = 0; j < kVectors; ++j)
      for (int i = 0; i < VW; ++i) {
        total += sum[j][i];
        scaled_total += product[j][i];
      }
    sums[r] = total;
    scaled[r] = scaled_total;
  }
}

void add(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) y[i] += x[i];
}

double peak(int iterations, PeakOperands& operands) {
  constexpr int kChains = 12;
  vf sum[kChains];
  const vf a = load(operands.factor), b = load(operands.term);
  for (int j = 0; j < kChains; ++j) sum[j] = splat(static_cast<float>(j));
  for (int i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < kChains; ++j) sum[j] = sum[j] * a + b;
  }
  vf total = {};
  for (int j = 0; j < kChains; ++j) total = total + sum[j];
  store(operands.total, total);
  return 2.0 * VW * kChains * iterations;
}

const KernelTable table = {KERNEL_NAME,
                           TILE_ROWS,
                           TILE_BLOCKS,
                           PANEL_WIDTH,
                           kHasBf16,
                           tile_products<float>,
                           gradient_tile<float, TileRows>,
                           tile_products<Bf16Pair>,
                           gradient_tile<Bf16Pair, Bf16TileRows>,
                           round_rows,
                           round_tile,
                           transpose_block,
                           gate_forward,
                           gate_backward,
                           dropout_mask,
                           apply_mask,
                           softmax_loss,
                           matrix_vector,
                           matrix_vector_bf16,
                           matrix_vector_int8,
                           gate_single,
                           sum_of_squares,
                           update,
                           sum_rows,
                           add,
                           peak};

}  // namespace KERNEL_NAMESPACE
}  // namespace cudnn_lstm::cpu
