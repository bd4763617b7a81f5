/* What is asked of gradients before the weights move: their norm, and the sum of those of equal rows. */
#include <stdlib.h>

#include "adamw.h"
#include "parallel.h"

enum { LANES = 16 };

struct squares {
    const struct graft_parameter *parameters;
    const int64_t *first_chunk; /* of each parameter, and the number of all at the end */
    int64_t count;
    double *sums; /* one for each chunk */
};

/* In a fixed order: number i goes to lane i mod 16, and lanes are added from the first to the last. */
static double sum_of_squares(const float *values, int64_t count) {
    double lanes[LANES] = {0.0};
    int64_t index = 0;
    for (; index + LANES <= count; index += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += (double)values[index + lane] * (double)values[index + lane];
    for (int lane = 0; index < count; index++, lane++)
        lanes[lane] += (double)values[index] * (double)values[index];
    double sum = 0.0;
    for (int lane = 0; lane < LANES; lane++) sum += lanes[lane];
    return sum;
}

static void square_chunks(void *data, int64_t begin, int64_t end) {
    const struct squares *job = data;
    int64_t which = 0;
    for (int64_t chunk = begin; chunk < end; chunk++) {
        while (job->first_chunk[which + 1] <= chunk) which++;
        const struct graft_parameter *parameter = &job->parameters[which];
        const int64_t start = (chunk - job->first_chunk[which]) * parameter->chunk;
        const int64_t left = parameter->count - start;
        job->sums[chunk] = sum_of_squares(parameter->gradient + start, left < parameter->chunk ? left : parameter->chunk);
    }
}

/* *result = sum of the squares of all gradients, in double. Chunks are summed by whoever takes them, their sums
 * added in order, parameter by parameter: the same bits for every number of threads. A chunk of zeros changes no
 * bit, so that of a matrix whose chunks are its rows, rows without a gradient may be left out. */
GRAFT_EXPORT int graft_squared_norm(const struct graft_parameter *parameters, int64_t count, double *result) {
    int64_t *first_chunk = malloc((size_t)(count + 1) * sizeof *first_chunk);
    if (first_chunk == NULL) return GRAFT_OUT_OF_MEMORY;
    first_chunk[0] = 0;
    for (int64_t which = 0; which < count; which++)
        first_chunk[which + 1] =
            first_chunk[which] + (parameters[which].count + parameters[which].chunk - 1) / parameters[which].chunk;
    double *sums = malloc((size_t)(first_chunk[count] + 1) * sizeof *sums);
    if (sums == NULL) {
        free(first_chunk);
        return GRAFT_OUT_OF_MEMORY;
    }
    struct squares job = {parameters, first_chunk, count, sums};
    graft_parallel_for(first_chunk[count], 32, square_chunks, &job);
    *result = 0.0;
    for (int64_t which = 0; which < count; which++) {
        double sum = 0.0;
        for (int64_t chunk = first_chunk[which]; chunk < first_chunk[which + 1]; chunk++) sum += sums[chunk];
        *result += sum;
    }
    free(sums);
    free(first_chunk);
    return GRAFT_DONE;
}

struct addition {
    const float *values;
    const int64_t *places;
    float *sums;
    int64_t count, width;
};

static void add_columns(void *data, int64_t begin, int64_t end) {
    const struct addition job = *(const struct addition *)data;
    for (int64_t row = 0; row < job.count; row++) {
        const float *restrict value = job.values + row * job.width;
        float *restrict sum = job.sums + job.places[row] * job.width;
        for (int64_t column = begin; column < end; column++) sum[column] += value[column];
    }
}

/* sums[places[i], :] += values[i, :] for i = 0, 1, ... in this order, as torch adds up the gradient of an
 * embedding; values [count, width] and sums contiguous. */
GRAFT_EXPORT int graft_add_rows(const float *values, const int64_t *places, int64_t count, int64_t width,
                                float *sums) {
    struct addition job = {values, places, sums, count, width};
    graft_parallel_for(width, 128, add_columns, &job);
    return GRAFT_DONE;
}
