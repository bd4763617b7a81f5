/* Products of matrices so small that packing them, as a BLAS does in every call, costs a large part of the product. */
#ifndef GRAFT_TILES_H
#define GRAFT_TILES_H

#include <stdint.h>

/* Floats of the vectors of the processor: GCC keeps wider ones in memory. */
#if defined(__AVX512F__)
#define GRAFT_WIDE 16
#elif defined(__AVX2__)
#define GRAFT_WIDE 8
#else
#define GRAFT_WIDE 4
#endif
/* How many of them side by side, six times, leave registers for what is added to them. */
#ifdef __aarch64__
#define GRAFT_ACROSS 4
#else
#define GRAFT_ACROSS 2
#endif

typedef float graft_wide __attribute__((vector_size(GRAFT_WIDE * sizeof(float)), aligned(4), may_alias));

/* Element (i, j) is first[i * row + j * step]. Of a matrix whose rows are read as vectors step is 1. */
struct graft_matrix {
    float *first;
    int64_t row, step;
};

/* A tile of sums that stays in registers. */
enum { TILE_ROWS = 6, TILE_COLUMNS = GRAFT_ACROSS * GRAFT_WIDE };
/* Rows of B that are gone through at a time, so that they are still in the cache for the next rows of A. */
enum { INNER_AT_ONCE = 256 };

static inline __attribute__((always_inline)) void graft_tile(int rows, int vectors, int64_t inner, float factor,
                                                             struct graft_matrix a, struct graft_matrix b, int keep,
                                                             struct graft_matrix c) {
    graft_wide sums[TILE_ROWS][GRAFT_ACROSS];
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < vectors; part++) sums[row][part] = (graft_wide){0.0f};
    for (int64_t step = 0; step < inner; step++) {
        graft_wide right[GRAFT_ACROSS];
        for (int part = 0; part < vectors; part++)
            right[part] = *(const graft_wide *)(b.first + step * b.row + part * GRAFT_WIDE);
        for (int row = 0; row < rows; row++) {
            const float left = a.first[row * a.row + step * a.step];
            for (int part = 0; part < vectors; part++) sums[row][part] += left * right[part];
        }
    }
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < vectors; part++) {
            graft_wide *place = (graft_wide *)(c.first + row * c.row + part * GRAFT_WIDE);
            *place = keep ? *place + factor * sums[row][part] : factor * sums[row][part];
        }
}

/* Columns of C as wide as a tile, from the first row to the last; constants below become loops without counters. */
static inline __attribute__((always_inline)) void graft_column_of_tiles(int vectors, int64_t rows, int64_t inner,
                                                                        float factor, struct graft_matrix a,
                                                                        struct graft_matrix b, int keep,
                                                                        struct graft_matrix c) {
    for (; rows >= TILE_ROWS; rows -= TILE_ROWS) {
        graft_tile(TILE_ROWS, vectors, inner, factor, a, b, keep, c);
        a.first += TILE_ROWS * a.row;
        c.first += TILE_ROWS * c.row;
    }
    switch (rows) {
    case 5: graft_tile(5, vectors, inner, factor, a, b, keep, c); break;
    case 4: graft_tile(4, vectors, inner, factor, a, b, keep, c); break;
    case 3: graft_tile(3, vectors, inner, factor, a, b, keep, c); break;
    case 2: graft_tile(2, vectors, inner, factor, a, b, keep, c); break;
    case 1: graft_tile(1, vectors, inner, factor, a, b, keep, c); break;
    default: break;
    }
}

/* The least multiple of GRAFT_WIDE that is not below a width. */
static inline int64_t graft_whole_vectors(int64_t width) { return (width + GRAFT_WIDE - 1) / GRAFT_WIDE * GRAFT_WIDE; }

static inline void graft_multiply_part(int64_t rows, int64_t columns, int64_t inner, float factor,
                                       struct graft_matrix a, struct graft_matrix b, int keep, struct graft_matrix c) {
    for (; columns >= TILE_COLUMNS; columns -= TILE_COLUMNS) {
        graft_column_of_tiles(GRAFT_ACROSS, rows, inner, factor, a, b, keep, c);
        b.first += TILE_COLUMNS;
        c.first += TILE_COLUMNS;
    }
    for (; columns > 0; columns -= GRAFT_WIDE) {
        graft_column_of_tiles(1, rows, inner, factor, a, b, keep, c);
        b.first += GRAFT_WIDE;
        c.first += GRAFT_WIDE;
    }
}

/* C[rows, columns] = factor * A * B, or C + factor * A * B where keep is not zero; columns are whole vectors, inner at
 * least 1. Each number is summed in the order of inner, whatever its place. */
static inline void graft_multiply(int64_t rows, int64_t columns, int64_t inner, float factor, struct graft_matrix a,
                                  struct graft_matrix b, int keep, struct graft_matrix c) {
    for (; inner > 0; inner -= INNER_AT_ONCE, keep = 1) {
        const int64_t part = inner < INNER_AT_ONCE ? inner : INNER_AT_ONCE;
        graft_multiply_part(rows, columns, part, factor, a, b, keep, c);
        a.first += part * a.step;
        b.first += part * b.row;
    }
}

#endif
