// 16-bit floats to and from f32, one value at a time; the same bits on every machine.
//
// As in simd.h, everything has internal linkage: each instruction set compiles its own copy.
#pragma once

#include <cstdint>
#include <cstring>

namespace outrider {
namespace {

inline float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

inline uint32_t float_to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

inline float bf16_to_float(uint16_t bits) { return bits_to_float(uint32_t(bits) << 16); }

// Nearest even; NaN stays NaN.
inline uint16_t float_to_bf16(float value) {
  const uint32_t bits = float_to_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
  return uint16_t((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

inline float half_to_float(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 31, mantissa = half & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    const float value = float(mantissa) * 5.9604644775390625e-8f;
    return sign ? -value : value;
  }
  if (exponent == 31) return bits_to_float(sign | 0x7f800000u | (mantissa << 13));
  return bits_to_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

// Nearest even, for 0 <= value <= 65504.
inline uint16_t float_to_half(float value) {
  // Below 2^-14 halves are multiples of 2^-24, which is what adding 0.5 rounds to.
  if (value < 6.103515625e-5f) return uint16_t(float_to_bits(value + 0.5f) - float_to_bits(0.5f));
  const uint32_t bits = float_to_bits(value) - (uint32_t(112) << 23);
  return uint16_t((bits + 0xfffu + ((bits >> 13) & 1)) >> 13);
}

}  // namespace
}  // namespace outrider
