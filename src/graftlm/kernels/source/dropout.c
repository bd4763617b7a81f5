/* Dropout whose mask is a function of (base of the row, feature). */
#include "dropout.h"

#include "parallel.h"

struct dropout {
    const float *input;
    const int32_t *bases;
    float *output;
    int64_t features;
    uint32_t threshold;
    float factor;
};

static void drop_rows(void *data, int64_t begin, int64_t end) {
    /* Copied to locals: a store to output could otherwise change them, and nothing would be vectorised. */
    const struct dropout job = *(const struct dropout *)data;
    const int64_t features = job.features;
    const int32_t threshold = (int32_t)job.threshold;
    const float factor = job.factor;
    for (int64_t row = begin; row < end; row++) {
        const float *restrict input = job.input + row * features;
        float *restrict output = job.output + row * features;
        const uint32_t base = (uint32_t)job.bases[row];
        for (int64_t first = 0; first < features; first += GRAFT_DRAWN) {
            const int32_t count = (int32_t)(features - first < GRAFT_DRAWN ? features - first : GRAFT_DRAWN);
            union graft_bits drawn;
            const uint16_t *bits = graft_draw(&drawn, base, (uint32_t)first, count);
            /* A product, not a choice: a NaN that is dropped stays one, as in torch. */
            for (int32_t feature = 0; feature < count; feature++)
                output[first + feature] = input[first + feature] * (bits[feature] >= threshold ? factor : 0.0f);
        }
    }
}

/* output[rows, features] = input * factor where the bits reach threshold, else input * 0; both contiguous. */
GRAFT_EXPORT int graft_dropout(const float *input, const int32_t *bases, float *output, int64_t rows,
                               int64_t features, uint32_t threshold, float factor) {
    struct dropout job = {input, bases, output, features, threshold, factor};
    const int64_t numbers_in_chunk = 16384; /* enough to outweigh taking a chunk */
    const int64_t grain = features < numbers_in_chunk ? numbers_in_chunk / (features > 0 ? features : 1) : 1;
    graft_parallel_for(rows, grain, drop_rows, &job);
    return GRAFT_DONE;
}
