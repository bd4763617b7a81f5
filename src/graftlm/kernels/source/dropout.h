/* The random bits of dropout: a hash of where a number stands, never the state of a generator. */
#ifndef GRAFT_DROPOUT_H
#define GRAFT_DROPOUT_H

#include <stdint.h>

/* What neighbouring pairs of features or keys are apart, and neighbouring heads: odd, so that none meet. */
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

/* So many places of a row have their bits drawn at a time: two have one hash, 16 bits each, the lower ones first. */
enum { GRAFT_DRAWN = 256 };

union graft_bits {
    uint32_t words[GRAFT_DRAWN / 2 + 1];
    uint16_t places[GRAFT_DRAWN + 2];
};

/* Draws the bits of the places [first, first + count) of a row, at most GRAFT_DRAWN; returns those of the first. */
static inline const uint16_t *graft_draw(union graft_bits *bits, uint32_t row_base, uint32_t first, int32_t count) {
    const uint32_t begin = row_base + first / 2 * GRAFT_STEP, words = (first % 2 + (uint32_t)count + 1) / 2;
    for (uint32_t word = 0; word < words; word++) bits->words[word] = graft_hash(begin + word * GRAFT_STEP);
    return bits->places + first % 2;
}

#endif
