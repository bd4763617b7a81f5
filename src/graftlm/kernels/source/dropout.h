/* The random bits of dropout: a hash of where a number stands, never the state of a generator. */
#ifndef GRAFT_DROPOUT_H
#define GRAFT_DROPOUT_H

#include <stdint.h>

/* What neighbouring features and keys are apart, and neighbouring heads: odd, so that none meet. */
static const uint32_t GRAFT_STEP = 0x9E3779B9u, GRAFT_HEAD_STEP = 0x85EBCA6Bu;

/* "lowbias32" of Chris Wellons, a bijection of 32 bits: https://nullprogram.com/blog/2018/07/31/ */
static inline uint32_t graft_hash(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7FEB352Du;
    x ^= x >> 15;
    x *= 0x846CA68Bu;
    x ^= x >> 16;
    return x;
}

#endif
