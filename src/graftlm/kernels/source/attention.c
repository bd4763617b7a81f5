/* Attention within sequences of different lengths that lie one after the other, with dropout inside.
 *
 * Scores exist for a block of query rows at a time; what is kept for the way back is one logarithm for each
 * query and head. The way back computes scores and dropout again, from the same products in the same order.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dropout.h"
#include "exponential.h"
#include "parallel.h"

/* Rows of scores are padded to this many numbers, so that loops over them have no remainder. */
enum { LANES = 16 };

/* The same fields in the same order as _Job in attention_kernel.py. Strides count floats; the last dimension
 * of every tensor is contiguous. Tensors without strides here are contiguous, [tokens, heads, ...]. */
struct job {
    const float *query, *key, *value;
    int64_t query_token_stride, query_head_stride, key_token_stride, key_head_stride, value_token_stride,
        value_head_stride;
    const int64_t *starts, *key_starts; /* [sequences + 1]: where queries and keys of a sequence begin */
    const int32_t *bases;               /* [queries]; NULL without dropout */
    int64_t sequences, heads, key_heads, width, value_width;
    int64_t window; /* keys at least this far from the query are invisible; 0 for no limit */
    int64_t causal; /* this and a window: only where queries and keys are the same tokens */
    float scale, kept_factor;
    uint32_t threshold;
    float *output, *log_sums; /* log_sums: [queries, heads] */
    const float *output_gradient;
    float *query_gradient, *key_gradient, *value_gradient; /* [queries or keys, heads, ...]: one for each query head */
};

/* Query rows [first, end) of one sequence whose queries begin at token start, and whose length keys at key_start. */
struct block {
    int64_t start, key_start, length, first, end;
};

struct region {
    const struct job *job;
    struct block *blocks;
    float *scratch;
    int64_t scratch_size; /* of one thread, in floats */
};

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t padded(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

static int64_t first_visible(const struct job *job, int64_t row) {
    return job->window > 0 ? larger(0, row - job->window + 1) : 0;
}

static int64_t end_of_visible(const struct job *job, int64_t row, int64_t length) {
    if (job->causal) return row + 1;
    return job->window > 0 ? smaller(length, row + job->window) : length;
}

/* How many query rows are treated at once: scores of 128 KB where that gives no fewer than 32 rows. Depends on the
 * lengths alone, so that neither the threads nor the neighbours in a batch change a sum. */
static int64_t rows_in_block(int64_t queries, int64_t keys) {
    const int64_t most = larger(32, smaller(128, 32768 / keys));
    const int64_t blocks = larger(1, (queries + most - 1) / most);
    return larger(1, (queries + blocks - 1) / blocks);
}

/* The bits of a query's dropout begin here; those of key j are graft_hash(row_base + j * GRAFT_STEP). */
static uint32_t row_base(const struct job *job, int64_t token, int64_t head) {
    return graft_hash((uint32_t)job->bases[token] + (uint32_t)(head + 1) * GRAFT_HEAD_STEP);
}

/* Scores of a block, invisible ones minus infinity, its columns being the keys [first_key, first_key + keys). */
static void score_block(const struct job *job, const struct block *block, int64_t head, int64_t first_key,
                        int64_t keys, float *scores, int64_t stride) {
    const int64_t rows = block->end - block->first, key_head = head / (job->heads / job->key_heads);
    const float *query = job->query + (block->start + block->first) * job->query_token_stride +
                         head * job->query_head_stride;
    const float *key = job->key + (block->key_start + first_key) * job->key_token_stride +
                       key_head * job->key_head_stride;
    graft_multiply(0, 1, rows, keys, job->width, job->scale, query, job->query_token_stride, key,
                   job->key_token_stride, 0.0f, scores, stride);
    for (int64_t row = 0; row < rows; row++) {
        const int64_t from = first_visible(job, block->first + row) - first_key;
        const int64_t to = end_of_visible(job, block->first + row, block->length) - first_key;
        for (int64_t column = 0; column < from; column++) scores[row * stride + column] = -INFINITY;
        for (int64_t column = to; column < stride; column++) scores[row * stride + column] = -INFINITY;
    }
}

/* Replaces scores by the exponentials of what they are below the largest, zero where dropped; returns the logarithm of
 * the sum of all exponentials, and in *total the sum below the largest. */
static float soften(float *restrict row, int32_t count, int dropping, uint32_t bits_of_first, uint32_t threshold,
                    float *total) {
    float largest = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : largest)
    for (int32_t column = 0; column < count; column++) largest = row[column] > largest ? row[column] : largest;
    if (dropping) {
#pragma omp simd reduction(+ : sum)
        for (int32_t column = 0; column < count; column++) {
            const float value = exponential(row[column] - largest);
            const uint32_t bits = graft_hash(bits_of_first + (uint32_t)column * GRAFT_STEP);
            sum += value;
            row[column] = bits >= threshold ? value : 0.0f;
        }
    } else {
#pragma omp simd reduction(+ : sum)
        for (int32_t column = 0; column < count; column++) {
            const float value = exponential(row[column] - largest);
            sum += value;
            row[column] = value;
        }
    }
    *total = sum;
    return largest + logf(sum);
}

static void attend(const struct job *job, const struct block *block, int64_t head, float *scratch) {
    const int64_t rows = block->end - block->first, key_head = head / (job->heads / job->key_heads);
    const int64_t first_key = first_visible(job, block->first);
    const int64_t keys = end_of_visible(job, block->end - 1, block->length) - first_key, stride = padded(keys);
    float *scores = scratch, *factors = scratch + rows * stride;
    score_block(job, block, head, first_key, keys, scores, stride);
    for (int64_t row = 0; row < rows; row++) {
        const int64_t token = block->start + block->first + row;
        const uint32_t bits = job->bases == NULL ? 0 : row_base(job, token, head) + (uint32_t)first_key * GRAFT_STEP;
        float total;
        job->log_sums[token * job->heads + head] =
            soften(scores + row * stride, (int32_t)stride, job->bases != NULL, bits, job->threshold, &total);
        factors[row] = job->kept_factor / total;
    }
    const int64_t output_stride = job->heads * job->value_width;
    float *output = job->output + (block->start + block->first) * output_stride + head * job->value_width;
    const float *value = job->value + (block->key_start + first_key) * job->value_token_stride +
                         key_head * job->value_head_stride;
    graft_multiply(0, 0, rows, job->value_width, keys, 1.0f, scores, stride, value, job->value_token_stride, 0.0f,
                   output, output_stride);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t feature = 0; feature < job->value_width; feature++)
            output[row * output_stride + feature] *= factors[row];
}

/* Replaces scores by the probabilities that were kept, and the gradients of these by the gradients of the scores;
 * both still lack a factor, that of dropout and the scale. */
static void soften_backward(float *restrict scores, float *restrict gradients, int32_t count, int dropping,
                            uint32_t bits_of_first, uint32_t threshold, float kept_factor, float log_sum,
                            float weighted) {
    if (dropping) {
#pragma omp simd
        for (int32_t column = 0; column < count; column++) {
            const float probability = exponential(scores[column] - log_sum);
            const uint32_t bits = graft_hash(bits_of_first + (uint32_t)column * GRAFT_STEP);
            const float kept = bits >= threshold ? 1.0f : 0.0f;
            gradients[column] = probability * (gradients[column] * (kept * kept_factor) - weighted);
            scores[column] = probability * kept;
        }
    } else {
#pragma omp simd
        for (int32_t column = 0; column < count; column++) {
            const float probability = exponential(scores[column] - log_sum);
            gradients[column] = probability * (gradients[column] - weighted);
            scores[column] = probability;
        }
    }
}

static float inner_product(const float *restrict a, const float *restrict b, int64_t count) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t index = 0; index < count; index++) sum += a[index] * b[index];
    return sum;
}

static void attend_backward(const struct job *job, const struct block *block, int64_t head, float *scratch) {
    const int64_t rows = block->end - block->first, key_head = head / (job->heads / job->key_heads);
    const int64_t first_key = first_visible(job, block->first);
    const int64_t keys = end_of_visible(job, block->end - 1, block->length) - first_key, stride = padded(keys);
    const int64_t token = block->start + block->first, key_token = block->key_start + first_key;
    const int64_t stride_out = job->heads * job->value_width, stride_in = job->heads * job->width;
    const float *query = job->query + token * job->query_token_stride + head * job->query_head_stride;
    const float *key = job->key + key_token * job->key_token_stride + key_head * job->key_head_stride;
    const float *value = job->value + key_token * job->value_token_stride + key_head * job->value_head_stride;
    const float *output = job->output + token * stride_out + head * job->value_width;
    const float *gradient = job->output_gradient + token * stride_out + head * job->value_width;
    float *scores = scratch, *gradients = scratch + rows * stride;
    score_block(job, block, head, first_key, keys, scores, stride);
    graft_multiply(0, 1, rows, keys, job->value_width, 1.0f, gradient, stride_out, value, job->value_token_stride,
                   0.0f, gradients, stride);
    for (int64_t row = 0; row < rows; row++) {
        const float weighted =
            inner_product(gradient + row * stride_out, output + row * stride_out, job->value_width);
        const uint32_t bits =
            job->bases == NULL ? 0 : row_base(job, token + row, head) + (uint32_t)first_key * GRAFT_STEP;
        /* The padding behind the last key holds whatever was there: no product reads it. */
        soften_backward(scores + row * stride, gradients + row * stride, (int32_t)stride, job->bases != NULL, bits,
                        job->threshold, job->kept_factor, job->log_sums[(token + row) * job->heads + head],
                        weighted);
    }
    graft_multiply(0, 0, rows, job->width, keys, job->scale, gradients, stride, key, job->key_token_stride, 0.0f,
                   job->query_gradient + token * stride_in + head * job->width, stride_in);
    graft_multiply(1, 0, keys, job->width, rows, job->scale, gradients, stride, query, job->query_token_stride, 1.0f,
                   job->key_gradient + key_token * stride_in + head * job->width, stride_in);
    graft_multiply(1, 0, keys, job->value_width, rows, job->kept_factor, scores, stride, gradient, stride_out, 1.0f,
                   job->value_gradient + key_token * stride_out + head * job->value_width, stride_out);
}

static void forward_items(void *data, int64_t begin, int64_t end) {
    const struct region *region = data;
    float *scratch = region->scratch + graft_thread_number() * region->scratch_size;
    for (int64_t item = begin; item < end; item++)
        attend(region->job, &region->blocks[item / region->job->heads], item % region->job->heads, scratch);
}

/* One thread goes through all rows of a sequence and head, so the sums over queries have one order. */
static void backward_items(void *data, int64_t begin, int64_t end) {
    const struct region *region = data;
    const struct job *job = region->job;
    float *scratch = region->scratch + graft_thread_number() * region->scratch_size;
    for (int64_t item = begin; item < end; item++) {
        const struct block sequence = region->blocks[item / job->heads];
        const int64_t head = item % job->heads, step = rows_in_block(sequence.end, sequence.length);
        for (int64_t row = 0; row < sequence.length; row++) {
            const int64_t place = (sequence.key_start + row) * job->heads + head;
            memset(job->key_gradient + place * job->width, 0, (size_t)job->width * sizeof(float));
            memset(job->value_gradient + place * job->value_width, 0, (size_t)job->value_width * sizeof(float));
        }
        for (int64_t row = 0; row < sequence.end; row += step) {
            struct block block = sequence;
            block.first = row;
            block.end = smaller(row + step, sequence.end);
            attend_backward(job, &block, head, scratch);
        }
    }
}

/* The longest first, so that no thread begins a long one when the others have finished. */
static int by_work(const void *left, const void *right) {
    const struct block *a = left, *b = right;
    const int64_t work_a = a->length * (a->end - a->first), work_b = b->length * (b->end - b->first);
    if (work_a != work_b) return work_a < work_b ? 1 : -1;
    if (a->key_start != b->key_start) return a->key_start < b->key_start ? -1 : 1;
    return a->first < b->first ? -1 : 1;
}

static int64_t queries_of(const struct job *job, int64_t sequence) {
    return job->starts[sequence + 1] - job->starts[sequence];
}

static int64_t keys_of(const struct job *job, int64_t sequence) {
    return job->key_starts[sequence + 1] - job->key_starts[sequence];
}

/* Blocks of at most rows_in_block rows; or whole sequences, with those that only have keys, whose gradients are zero.
 * Returns how many. With blocks NULL only counts. */
static int64_t list_blocks(const struct job *job, int whole, struct block *blocks) {
    int64_t count = 0;
    for (int64_t sequence = 0; sequence < job->sequences; sequence++) {
        const int64_t queries = queries_of(job, sequence), keys = keys_of(job, sequence);
        if (keys == 0 || (queries == 0 && !whole)) continue;
        const int64_t step = whole ? larger(1, queries) : rows_in_block(queries, keys);
        for (int64_t row = 0; row < larger(1, queries); row += step, count++)
            if (blocks != NULL)
                blocks[count] = (struct block){job->starts[sequence], job->key_starts[sequence], keys, row,
                                               smaller(row + step, queries)};
    }
    return count;
}

static int64_t scratch_size(const struct job *job, int64_t matrices) {
    int64_t size = 0;
    for (int64_t sequence = 0; sequence < job->sequences; sequence++) {
        const int64_t length = keys_of(job, sequence);
        if (length == 0) continue;
        const int64_t rows = rows_in_block(queries_of(job, sequence), length);
        const int64_t keys = job->window > 0 ? smaller(length, rows + 2 * smaller(job->window, length)) : length;
        size = larger(size, matrices * rows * padded(keys) + rows);
    }
    return padded(size);
}

static int run(const struct job *job, int whole, int64_t matrices, graft_body body) {
    const int64_t count = list_blocks(job, whole, NULL);
    if (count == 0) return GRAFT_DONE;
    struct region region = {.job = job, .scratch_size = scratch_size(job, matrices)};
    region.blocks = malloc((size_t)count * sizeof(struct block));
    region.scratch = aligned_alloc(64, (size_t)(graft_threads() * region.scratch_size) * sizeof(float));
    int result = GRAFT_OUT_OF_MEMORY;
    if (region.blocks != NULL && region.scratch != NULL) {
        list_blocks(job, whole, region.blocks);
        qsort(region.blocks, (size_t)count, sizeof(struct block), by_work);
        graft_parallel_for(count * job->heads, 1, body, &region);
        result = GRAFT_DONE;
    }
    free(region.blocks);
    free(region.scratch);
    return result;
}

/* Fills output and log_sums. */
GRAFT_EXPORT int graft_attention(const struct job *job) { return run(job, 0, 1, forward_items); }

/* Fills the three gradients, from what graft_attention has filled and the gradient of its output. */
GRAFT_EXPORT int graft_attention_backward(const struct job *job) { return run(job, 1, 2, backward_items); }
