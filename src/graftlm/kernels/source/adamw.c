/* AdamW, for whole tensors and for rows of a matrix that take their steps late.
 *
 * A row without a gradient still moves: its moments fade, and what is left of them moves it on. Nobody sees that
 * until the row is read, so it is enough to take the missed steps then, one by one, with the rates they had. Every
 * path below computes the same operations in the same order in IEEE float32 (the compiler may neither contract nor
 * reorder them), so that a late row has, bit for bit, what it would have had in time. */
#include "adamw.h"

#include <math.h>
#include <stdlib.h>

#include "parallel.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

enum {
    BLOCK = 128,        /* numbers of a row that are replayed together: three blocks fill the vector registers */
    DENSE_BLOCK = 4096, /* numbers of a tensor between two looks for more work */
    LOOK_EVERY = 8      /* steps between two looks whether the rest is quiet */
};

/* The one step that everything here consists of (Loshchilov & Hutter 2019, algorithm 2). */
static inline void take_step(const struct graft_adamw *adamw, const struct graft_step *step, float gradient,
                             float *weight, float *first, float *second) {
    *first = adamw->first_decay * *first + adamw->first_share * gradient;
    *second = adamw->second_decay * *second + adamw->second_share * (gradient * gradient);
    *weight = *weight * step->keep -
              step->size * *first / (sqrtf(*second) * step->inverse_root_correction + adamw->epsilon);
}

/* Moments that fade would be subnormal for hundreds of steps, and a processor slow with each of them: they are zero.
 * Set in every thread for the length of a body and given back, since torch's own kernels keep subnormals. What
 * computes stands in functions that are not inlined, lest it be moved past the switch. */
#if defined(__x86_64__) || defined(_M_X64)
typedef unsigned int float_mode;
static float_mode flush_subnormals(void) {
    const float_mode before = _mm_getcsr();
    _mm_setcsr(before | 0x8040); /* results and operands */
    return before;
}
static void restore_mode(float_mode before) { _mm_setcsr(before); }
#elif defined(__aarch64__)
typedef uint64_t float_mode;
static void restore_mode(float_mode before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
static float_mode flush_subnormals(void) {
    float_mode before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    restore_mode(before | (UINT64_C(1) << 24));
    return before;
}
#else
typedef int float_mode;
static float_mode flush_subnormals(void) { return 0; }
static void restore_mode(float_mode before) { (void)before; }
#endif

__attribute__((noinline)) static void step_numbers(const struct graft_adamw *settings, const struct graft_step *numbers,
                                                   float scale, const float *restrict gradient,
                                                   float *restrict weights, float *restrict first,
                                                   float *restrict second, int64_t count) {
    const struct graft_adamw adamw = *settings;
    const struct graft_step step = *numbers;
    for (int64_t index = 0; index < count; index++)
        take_step(&adamw, &step, gradient[index] * scale, &weights[index], &first[index], &second[index]);
}

struct dense_update {
    const struct graft_parameter *parameters;
    const int64_t *first_block; /* of each parameter, and the number of all at the end */
    const struct graft_adamw *adamw;
    float scale;
};

static void step_blocks(void *data, int64_t begin, int64_t end) {
    const struct dense_update *job = data;
    const float_mode before = flush_subnormals();
    int64_t which = 0;
    for (int64_t block = begin; block < end; block++) {
        while (job->first_block[which + 1] <= block) which++;
        const struct graft_parameter *parameter = &job->parameters[which];
        const int64_t start = (block - job->first_block[which]) * DENSE_BLOCK;
        const int64_t left = parameter->count - start;
        step_numbers(job->adamw, &parameter->step, job->scale, parameter->gradient + start, parameter->weights + start,
                     parameter->first + start, parameter->second + start, left < DENSE_BLOCK ? left : DENSE_BLOCK);
    }
    restore_mode(before);
}

/* Takes one step with every number of the parameters; gradients count scale times (the factor of clipping). */
GRAFT_EXPORT int graft_adamw_update(const struct graft_parameter *parameters, int64_t count,
                                    const struct graft_adamw *adamw, float scale) {
    int64_t *first_block = malloc((size_t)(count + 1) * sizeof *first_block);
    if (first_block == NULL) return GRAFT_OUT_OF_MEMORY;
    first_block[0] = 0;
    for (int64_t which = 0; which < count; which++)
        first_block[which + 1] = first_block[which] + (parameters[which].count + DENSE_BLOCK - 1) / DENSE_BLOCK;
    struct dense_update job = {parameters, first_block, adamw, scale};
    graft_parallel_for(first_block[count], 4, step_blocks, &job);
    free(first_block);
    return GRAFT_DONE;
}

/* What is known of all steps from one of them to the last. */
struct outlook {
    float largest_size;
    float kept;  /* product of every keep, or NaN where nothing can be promised: no comparison with it holds */
    int no_decay; /* whether every keep is exactly 1 */
};

/* Whether the steps left change no weight of the block but by weight decay. With the ratio
 * b = beta1 / sqrt(beta2) < 1, the k-th of them would subtract at most
 *     size * first * beta1^k / (sqrt(second) * beta2^(k/2) + epsilon) <= b^k * size * first / (sqrt(second) + epsilon)
 * from a weight that is at least kept * |weight| by then. Less than 2^-26 of a float32 is less than half the distance
 * to its neighbours, and rounds away; 2^-28 leaves room for the rounding of this estimate. A first moment of zero
 * subtracts +0, which changes no weight, not even -0. Otherwise a weight whose share underflows is never quiet, since
 * of a weight that decays to -0 a step that underflowed to -0 would make +0. */
static int is_quiet(const float *weights, const float *first, const float *second, const struct outlook *outlook,
                    float epsilon) {
    const float share = outlook->kept * 0x1p-28f;
    int loud = 0;
    for (int index = 0; index < BLOCK; index++) {
        const float bound = outlook->largest_size * fabsf(first[index]) / (sqrtf(second[index]) + epsilon);
        loud |= !((first[index] == 0.0f) | (bound < fabsf(weights[index]) * share));
    }
    return !loud;
}

static int any_nonzero(const float *values) {
    int found = 0;
    for (int index = 0; index < BLOCK; index++) found |= values[index] != 0.0f;
    return found;
}

/* The rest of a quiet block: moments fade, weights decay. Adding zero is what a zero gradient does: it makes +0 of
 * the -0 that a flushed product may be. */
static void fade(const struct graft_adamw *adamw, const struct graft_step *steps, int64_t count, int no_decay,
                 float *weights, float *first, float *second) {
    if (any_nonzero(first))
        for (int64_t number = 0; number < count; number++)
            for (int index = 0; index < BLOCK; index++) first[index] *= adamw->first_decay;
    if (any_nonzero(second))
        for (int64_t number = 0; number < count; number++)
            for (int index = 0; index < BLOCK; index++) second[index] *= adamw->second_decay;
    /* A product with 1 still flushes a subnormal weight, once and for all. */
    for (int64_t number = no_decay ? count - 1 : 0; number < count; number++)
        for (int index = 0; index < BLOCK; index++) weights[index] *= steps[number].keep;
    for (int index = 0; index < BLOCK; index++) {
        first[index] += 0.0f;
        second[index] += 0.0f;
    }
}

static void replay_block(const struct graft_adamw *adamw, const struct graft_step *steps,
                         const struct outlook *outlooks, int64_t count, int numbers, float *row_weights,
                         float *row_first, float *row_second) {
    /* Beyond the end of a row stand zeros, which stay zero. */
    float weights[BLOCK] = {0.0f}, first[BLOCK] = {0.0f}, second[BLOCK] = {0.0f};
    for (int index = 0; index < numbers; index++) {
        weights[index] = row_weights[index];
        first[index] = row_first[index];
        second[index] = row_second[index];
    }
    int64_t number = 0;
    while (number < count && !is_quiet(weights, first, second, &outlooks[number], adamw->epsilon)) {
        const int64_t end = count - number < LOOK_EVERY ? count : number + LOOK_EVERY;
        for (; number < end; number++)
            for (int index = 0; index < BLOCK; index++)
                take_step(adamw, &steps[number], 0.0f, &weights[index], &first[index], &second[index]);
    }
    if (number < count)
        fade(adamw, steps + number, count - number, outlooks[number].no_decay, weights, first, second);
    for (int index = 0; index < numbers; index++) {
        row_weights[index] = weights[index];
        row_first[index] = first[index];
        row_second[index] = second[index];
    }
}

struct late_row {
    int64_t row, done;
};

struct catching_up {
    const struct graft_rows *matrix;
    const struct graft_adamw *adamw;
    const struct late_row *late;
    const struct outlook *outlooks; /* one for each of the steps from `oldest` + 1 on */
    int64_t oldest;
};

__attribute__((noinline)) static void replay_row(const struct catching_up *job, const struct late_row *late) {
    const struct graft_adamw adamw = *job->adamw;
    const struct graft_rows *matrix = job->matrix;
    const struct graft_step *steps = matrix->steps + (late->done - matrix->first_step);
    const struct outlook *outlooks = job->outlooks + (late->done - job->oldest);
    for (int64_t start = 0; start < matrix->width; start += BLOCK) {
        const int64_t left = matrix->width - start, place = late->row * matrix->width + start;
        replay_block(&adamw, steps, outlooks, matrix->now - late->done, left < BLOCK ? (int)left : BLOCK,
                     matrix->weights + place, matrix->first + place, matrix->second + place);
    }
}

static void replay_rows(void *data, int64_t begin, int64_t end) {
    const struct catching_up *job = data;
    const float_mode before = flush_subnormals();
    for (int64_t index = begin; index < end; index++) replay_row(job, &job->late[index]);
    restore_mode(before);
}

static void look_ahead(const struct graft_adamw *adamw, const struct graft_step *steps, int64_t count,
                       struct outlook *outlooks) {
    const int fades_fast_enough = adamw->first_decay < 0.99f * sqrtf(adamw->second_decay) && adamw->epsilon > 0.0f;
    struct outlook after = {0.0f, fades_fast_enough ? 1.0f : NAN, 1};
    for (int64_t number = count - 1; number >= 0; number--) {
        const struct graft_step *step = &steps[number];
        const int usual = step->size >= 0.0f && step->keep >= 0.0f && step->keep <= 1.0f;
        after.largest_size = step->size > after.largest_size ? step->size : after.largest_size;
        after.kept = usual ? after.kept * step->keep : NAN;
        after.no_decay = after.no_decay && step->keep == 1.0f;
        outlooks[number] = after;
    }
}

/* Takes the missed steps of the wanted rows, which may repeat; numbers that are no row are left to whoever reads
 * them. A missed step is one without a gradient. */
GRAFT_EXPORT int graft_adamw_catch_up(const struct graft_rows *matrix, const struct graft_adamw *adamw,
                                      const int64_t *wanted, int64_t count) {
    struct late_row *late = malloc((size_t)(count + 1) * sizeof *late);
    if (late == NULL) return GRAFT_OUT_OF_MEMORY;
    int64_t found = 0, oldest = matrix->now;
    for (int64_t index = 0; index < count; index++) {
        const int64_t row = wanted[index];
        if (row < 0 || row >= matrix->rows || matrix->done[row] >= matrix->now) continue;
        if (matrix->done[row] < oldest) oldest = matrix->done[row];
        late[found++] = (struct late_row){row, matrix->done[row]};
        matrix->done[row] = matrix->now;
    }
    struct outlook *outlooks = malloc((size_t)(matrix->now - oldest + 1) * sizeof *outlooks);
    if (outlooks == NULL) {
        for (int64_t index = 0; index < found; index++) matrix->done[late[index].row] = late[index].done;
        free(late);
        return GRAFT_OUT_OF_MEMORY;
    }
    look_ahead(adamw, matrix->steps + (oldest - matrix->first_step), matrix->now - oldest, outlooks);
    struct catching_up job = {matrix, adamw, late, outlooks, oldest};
    graft_parallel_for(found, 4, replay_rows, &job);
    free(outlooks);
    free(late);
    return GRAFT_DONE;
}

struct row_update {
    const struct graft_rows *matrix;
    const struct graft_adamw *adamw;
    const int64_t *rows;
    const float *gradients;
    float scale;
};

static void step_rows(void *data, int64_t begin, int64_t end) {
    const struct row_update *job = data;
    const struct graft_rows *matrix = job->matrix;
    const struct graft_step *step = &matrix->steps[matrix->now - matrix->first_step - 1];
    const float_mode before = flush_subnormals();
    for (int64_t index = begin; index < end; index++) {
        const int64_t place = job->rows[index] * matrix->width;
        step_numbers(job->adamw, step, job->scale, job->gradients + index * matrix->width, matrix->weights + place,
                     matrix->first + place, matrix->second + place, matrix->width);
        matrix->done[job->rows[index]] = matrix->now;
    }
    restore_mode(before);
}

/* Takes step `now` with different rows that have taken all before it; gradients [count, width] count scale times. */
GRAFT_EXPORT int graft_adamw_update_rows(const struct graft_rows *matrix, const struct graft_adamw *adamw,
                                         const int64_t *rows, int64_t count, const float *gradients, float scale) {
    struct row_update job = {matrix, adamw, rows, gradients, scale};
    graft_parallel_for(count, 4, step_rows, &job);
    return GRAFT_DONE;
}
