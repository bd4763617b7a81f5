/* The numbers of AdamW, laid out as Python writes them (kernels/adamw.py). */
#ifndef GRAFT_ADAMW_H
#define GRAFT_ADAMW_H

#include <stdint.h>

/* Of a whole run: beta1, 1 - beta1, beta2, 1 - beta2, epsilon. */
struct graft_adamw {
    float first_decay, first_share, second_decay, second_share, epsilon;
};

/* Of one step: 1 - rate * weight decay, rate / (1 - beta1^t), 1 / sqrt(1 - beta2^t). */
struct graft_step {
    float keep, size, inverse_root_correction;
};

/* One parameter with its gradient and moments, contiguous, count numbers each. Its gradient is summed in
 * chunks of so many numbers; a norm needs nothing but the gradient. */
struct graft_parameter {
    float *weights;
    const float *gradient;
    float *first, *second;
    int64_t count, chunk;
    struct graft_step step;
};

/* A matrix whose rows take their steps late. done[row] is the last step a row has taken; of the steps after
 * first_step up to now, steps[k] is number first_step + 1 + k, and no row is behind first_step. */
struct graft_rows {
    float *weights, *first, *second;
    int64_t *done;
    int64_t rows, width;
    const struct graft_step *steps;
    int64_t first_step, now;
};

#endif
