/* The exponential function, in a form that compilers turn into vectors. */
#ifndef GRAFT_EXPONENTIAL_H
#define GRAFT_EXPONENTIAL_H

#include <stdint.h>
#include <string.h>

/* e^x for x <= 0 to about 1e-7 relative; 0 where the result would come near the subnormal numbers, whose products
 * are slow; NaN for NaN. The polynomial is that of expf in the Cephes library. */
static inline float exponential(float x) {
    const float rounder = 12582912.0f; /* 1.5 * 2^23: adding it leaves the nearest integer in the low bits */
    const float least = -87.0f;
    const float bounded = x < least ? least : x;
    const float shifted = bounded * 1.44269504f + rounder;
    const float power = shifted - rounder;
    const float rest = bounded - power * 0.693359375f + power * 2.12194440e-4f;
    float value = 1.9875691500e-4f;
    value = value * rest + 1.3981999507e-3f;
    value = value * rest + 8.3334519073e-3f;
    value = value * rest + 4.1665795894e-2f;
    value = value * rest + 1.6666665459e-1f;
    value = value * rest + 5.0000001201e-1f;
    value = value * rest * rest + rest + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + 0x3F800000u;
    float two_to_power;
    memcpy(&two_to_power, &bits, sizeof bits);
    return x < least ? 0.0f : value * two_to_power;
}

#endif
