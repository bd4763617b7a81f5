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
#include "tiles.h"

/* Rows of scores are padded to this many numbers, so that loops over them have no remainder. */
enum { LANES = 16 };
/* Spans that each thread should have to choose from on the way there, where there are so many blocks. */
enum { SPANS_OF_THREAD = 4 };

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

/* Query rows [first, end) of one sequence whose queries begin at token start, and whose length keys at key_start. They
 * are treated in blocks of rows_in_block; a block is written as a span of its own. */
struct span {
    int64_t start, key_start, length, first, end, rows_in_block;
    int64_t work; /* how many scores it has */
};

/* What one head of a span is computed from and in, in the scratch memory of a thread. Rows of copied matrices are
 * width or value_width apart, whole vectors; those of transposed ones, which have a column for each key, key_stride. */
struct room {
    int64_t first_key, keys; /* which the span can see */
    int64_t key_stride, width, value_width;
    float *query, *keys_copied, *values_copied, *transposed_keys, *scores, *factors, *output;
    float *transposed_values, *gradients, *output_gradient, *key_sums, *value_sums; /* on the way back */
};

struct region {
    const struct job *job;
    struct span *spans;
    float *scratch;
    int64_t scratch_size; /* of one thread, in floats */
};

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t padded(int64_t count) { return (count + LANES - 1) / LANES * LANES; }
/* At least count, and an odd number of lanes: rows a power of two apart would meet in the same places of the cache. */
static inline int64_t row_stride(int64_t count) { return (padded(count) / LANES | 1) * LANES; }

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

/* The keys that some row of these can see: returns the first, and how many in *keys. */
static int64_t visible_keys(const struct job *job, const struct span *rows, int64_t *keys) {
    const int64_t first = first_visible(job, rows->first);
    *keys = end_of_visible(job, rows->end - 1, rows->length) - first;
    return first;
}

static struct graft_matrix matrix(float *first, int64_t stride) { return (struct graft_matrix){first, stride, 1}; }
static struct graft_matrix transposed(float *first, int64_t stride) { return (struct graft_matrix){first, 1, stride}; }

static const float *at(const float *tensor, int64_t token, int64_t token_stride, int64_t head, int64_t head_stride) {
    return tensor + token * token_stride + head * head_stride;
}

/* Copies rows that lie stride apart one behind the other, each padded with zeros to a whole number of vectors. Those
 * of one head lie far apart, and products that read them there wait for each. */
static void copy_rows(const float *source, int64_t stride, int64_t rows, int64_t width, float *target) {
    const int64_t target_stride = graft_whole_vectors(width);
    for (int64_t row = 0; row < rows; row++) {
        memcpy(target + row * target_stride, source + row * stride, (size_t)width * sizeof(float));
        memset(target + row * target_stride + width, 0, (size_t)(target_stride - width) * sizeof(float));
    }
}

/* Copies the columns of copied rows as rows, target_stride apart, zeros behind them. */
static void transpose(const float *source, int64_t rows, int64_t width, float *target, int64_t target_stride) {
    const int64_t stride = graft_whole_vectors(width);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < width; column++)
            target[column * target_stride + row] = source[row * stride + column];
    for (int64_t column = 0; column < width; column++)
        memset(target + column * target_stride + rows, 0, (size_t)(target_stride - rows) * sizeof(float));
}

/* Scores of a block, invisible ones minus infinity, its columns being the keys [first_key, first_key + keys). */
static void score_block(const struct job *job, const struct span *block, const struct room *room, int64_t head,
                        int64_t first_key, int64_t keys) {
    const int64_t rows = block->end - block->first, token = block->start + block->first;
    const int64_t columns = padded(keys), stride = row_stride(keys);
    float *scores = room->scores;
    copy_rows(at(job->query, token, job->query_token_stride, head, job->query_head_stride), job->query_token_stride,
              rows, job->width, room->query);
    graft_multiply(rows, columns, job->width, job->scale, matrix(room->query, room->width),
                   matrix(room->transposed_keys + (first_key - room->first_key), room->key_stride), 0,
                   matrix(scores, stride));
    for (int64_t row = 0; row < rows; row++) {
        const int64_t from = first_visible(job, block->first + row) - first_key;
        const int64_t to = end_of_visible(job, block->first + row, block->length) - first_key;
        for (int64_t column = 0; column < from; column++) scores[row * stride + column] = -INFINITY;
        for (int64_t column = to; column < columns; column++) scores[row * stride + column] = -INFINITY;
    }
}

/* What a query drops: the base of its row, the first of the keys at hand, and the least bits that are kept. */
struct decisions {
    uint32_t row_base, first_key;
    int32_t threshold;
};

/* Returns them, which are written to *decisions, or NULL where nothing is dropped. */
static const struct decisions *decide(const struct job *job, int64_t token, int64_t head, int64_t first_key,
                                      struct decisions *decisions) {
    if (job->bases == NULL) return NULL;
    const uint32_t row_base = graft_hash((uint32_t)job->bases[token] + (uint32_t)(head + 1) * GRAFT_HEAD_STEP);
    *decisions = (struct decisions){row_base, (uint32_t)first_key, (int32_t)job->threshold};
    return decisions;
}

/* Replaces scores by the exponentials of what they are below the largest, zero where dropped; returns the logarithm of
 * the sum of all exponentials, and in *total the sum below the largest. */
static float soften(float *restrict row, int32_t count, const struct decisions *dropout, float *total) {
    float largest = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : largest)
    for (int32_t column = 0; column < count; column++) largest = row[column] > largest ? row[column] : largest;
    if (dropout != NULL) {
        const int32_t threshold = dropout->threshold;
        for (int32_t first = 0; first < count; first += GRAFT_DRAWN) {
            const int32_t part = count - first < GRAFT_DRAWN ? count - first : GRAFT_DRAWN;
            float *restrict scores = row + first;
            union graft_bits drawn;
            const uint16_t *bits = graft_draw(&drawn, dropout->row_base, dropout->first_key + (uint32_t)first, part);
#pragma omp simd reduction(+ : sum)
            for (int32_t column = 0; column < part; column++) {
                const float value = exponential(scores[column] - largest);
                sum += value;
                scores[column] = bits[column] >= threshold ? value : 0.0f;
            }
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

static void attend(const struct job *job, const struct span *block, const struct room *room, int64_t head) {
    int64_t keys;
    const int64_t first_key = visible_keys(job, block, &keys), columns = padded(keys), stride = row_stride(keys);
    const int64_t rows = block->end - block->first, token = block->start + block->first;
    score_block(job, block, room, head, first_key, keys);
    for (int64_t row = 0; row < rows; row++) {
        struct decisions decisions;
        const struct decisions *dropout = decide(job, token + row, head, first_key, &decisions);
        float total;
        job->log_sums[(token + row) * job->heads + head] =
            soften(room->scores + row * stride, (int32_t)columns, dropout, &total);
        room->factors[row] = job->kept_factor / total;
    }
    float *values = room->values_copied + (first_key - room->first_key) * room->value_width;
    graft_multiply(rows, room->value_width, keys, 1.0f, matrix(room->scores, stride), matrix(values, room->value_width),
                   0, matrix(room->output, room->value_width));
    float *output = job->output + (token * job->heads + head) * job->value_width;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t feature = 0; feature < job->value_width; feature++)
            output[row * job->heads * job->value_width + feature] =
                room->output[row * room->value_width + feature] * room->factors[row];
}

/* Replaces scores by the probabilities that were kept, and the gradients of these by the gradients of the scores;
 * both still lack a factor, that of dropout and the scale. */
static void soften_backward(float *restrict row, float *restrict row_gradients, int32_t count,
                            const struct decisions *dropout, float kept_factor, float log_sum, float weighted) {
    if (dropout != NULL) {
        const int32_t threshold = dropout->threshold;
        for (int32_t first = 0; first < count; first += GRAFT_DRAWN) {
            const int32_t part = count - first < GRAFT_DRAWN ? count - first : GRAFT_DRAWN;
            float *restrict scores = row + first, *restrict gradients = row_gradients + first;
            union graft_bits drawn;
            const uint16_t *bits = graft_draw(&drawn, dropout->row_base, dropout->first_key + (uint32_t)first, part);
#pragma omp simd
            for (int32_t column = 0; column < part; column++) {
                const float probability = exponential(scores[column] - log_sum);
                const float kept = bits[column] >= threshold ? 1.0f : 0.0f;
                gradients[column] = probability * (gradients[column] * (kept * kept_factor) - weighted);
                scores[column] = probability * kept;
            }
        }
    } else {
#pragma omp simd
        for (int32_t column = 0; column < count; column++) {
            const float probability = exponential(row[column] - log_sum);
            row_gradients[column] = probability * (row_gradients[column] - weighted);
            row[column] = probability;
        }
    }
}

static float inner_product(const float *restrict a, const float *restrict b, int64_t count) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t index = 0; index < count; index++) sum += a[index] * b[index];
    return sum;
}

static void attend_backward(const struct job *job, const struct span *block, const struct room *room, int64_t head) {
    int64_t keys;
    const int64_t first_key = visible_keys(job, block, &keys), skipped = first_key - room->first_key;
    const int64_t columns = padded(keys), stride = row_stride(keys);
    const int64_t rows = block->end - block->first, token = block->start + block->first;
    const int64_t width = room->width, value_width = room->value_width;
    const int64_t stride_in = job->heads * job->width, stride_out = job->heads * job->value_width;
    const float *output = job->output + token * stride_out + head * job->value_width;
    const float *gradient = job->output_gradient + token * stride_out + head * job->value_width;
    copy_rows(gradient, stride_out, rows, job->value_width, room->output_gradient);
    for (int64_t row = 0; row < rows; row++)
        room->factors[row] =
            inner_product(room->output_gradient + row * value_width, output + row * stride_out, job->value_width);
    score_block(job, block, room, head, first_key, keys);
    graft_multiply(rows, columns, job->value_width, 1.0f, matrix(room->output_gradient, value_width),
                   matrix(room->transposed_values + skipped, room->key_stride), 0, matrix(room->gradients, stride));
    for (int64_t row = 0; row < rows; row++) {
        struct decisions decisions;
        const struct decisions *dropout = decide(job, token + row, head, first_key, &decisions);
        /* The padding behind the last key holds whatever comes of it: no product reads it. */
        soften_backward(room->scores + row * stride, room->gradients + row * stride, (int32_t)columns, dropout,
                        job->kept_factor, job->log_sums[(token + row) * job->heads + head], room->factors[row]);
    }
    graft_multiply(rows, width, keys, job->scale, matrix(room->gradients, stride),
                   matrix(room->keys_copied + skipped * width, width), 0, matrix(room->output, width));
    graft_multiply(keys, width, rows, job->scale, transposed(room->gradients, stride), matrix(room->query, width), 1,
                   matrix(room->key_sums + skipped * width, width));
    graft_multiply(keys, value_width, rows, job->kept_factor, transposed(room->scores, stride),
                   matrix(room->output_gradient, value_width), 1,
                   matrix(room->value_sums + skipped * value_width, value_width));
    for (int64_t row = 0; row < rows; row++)
        memcpy(job->query_gradient + (token + row) * stride_in + head * job->width, room->output + row * width,
               (size_t)job->width * sizeof(float));
}

/* Divides the scratch memory of a thread; with memory NULL only counts. Returns how many floats it takes. */
static int64_t furnish(const struct job *job, const struct span *span, int back, float *memory, struct room *room) {
    room->first_key = 0, room->keys = span->length; /* on the way back all keys get a gradient */
    if (!back) room->first_key = visible_keys(job, span, &room->keys);
    room->width = graft_whole_vectors(job->width);
    room->value_width = graft_whole_vectors(job->value_width);
    /* A block that begins within reads whole vectors, so beyond the last key. */
    room->key_stride = row_stride(room->keys + LANES);
    const int64_t rows = smaller(span->end - span->first, span->rows_in_block), keys = room->keys;
    const int64_t seen = job->window > 0 ? smaller(keys, rows + 2 * smaller(job->window, keys)) : keys;
    const int64_t scores = rows * row_stride(seen), wider = larger(room->width, room->value_width);
    const struct {
        float **place;
        int64_t size;
    } parts[] = {
        {&room->query, rows * room->width},
        {&room->keys_copied, keys * room->width},
        {&room->values_copied, keys * room->value_width},
        {&room->transposed_keys, job->width * room->key_stride},
        {&room->scores, scores},
        {&room->factors, rows},
        {&room->output, rows * wider},
        {&room->transposed_values, back ? job->value_width * room->key_stride : 0},
        {&room->gradients, back ? scores : 0},
        {&room->output_gradient, back ? rows * room->value_width : 0},
        {&room->key_sums, back ? keys * room->width : 0},
        {&room->value_sums, back ? keys * room->value_width : 0},
    };
    int64_t size = 0;
    for (size_t part = 0; part < sizeof parts / sizeof *parts; part++) {
        if (memory != NULL) *parts[part].place = memory + size;
        size += padded(parts[part].size);
    }
    return size;
}

/* Every block of a span, of one head. */
static void each_block(const struct job *job, const struct span *span, const struct room *room, int64_t head,
                       void (*treat)(const struct job *, const struct span *, const struct room *, int64_t)) {
    for (int64_t row = span->first; row < span->end; row += span->rows_in_block) {
        struct span block = *span;
        block.first = row;
        block.end = smaller(row + span->rows_in_block, span->end);
        treat(job, &block, room, head);
    }
}

static void forward_items(void *data, int64_t begin, int64_t end) {
    const struct region *region = data;
    const struct job *job = region->job;
    struct room room;
    for (int64_t item = begin; item < end; item++) {
        const struct span *span = &region->spans[item / job->heads];
        const int64_t head = item % job->heads, key_head = head / (job->heads / job->key_heads);
        furnish(job, span, 0, region->scratch + graft_thread_number() * region->scratch_size, &room);
        const int64_t token = span->key_start + room.first_key;
        copy_rows(at(job->key, token, job->key_token_stride, key_head, job->key_head_stride), job->key_token_stride,
                  room.keys, job->width, room.keys_copied);
        transpose(room.keys_copied, room.keys, job->width, room.transposed_keys, room.key_stride);
        copy_rows(at(job->value, token, job->value_token_stride, key_head, job->value_head_stride),
                  job->value_token_stride, room.keys, job->value_width, room.values_copied);
        each_block(job, span, &room, head, attend);
    }
}

/* One thread goes through all rows of a sequence and head, so the sums over queries have one order. */
static void backward_items(void *data, int64_t begin, int64_t end) {
    const struct region *region = data;
    const struct job *job = region->job;
    struct room room;
    for (int64_t item = begin; item < end; item++) {
        const struct span *span = &region->spans[item / job->heads];
        const int64_t head = item % job->heads, key_head = head / (job->heads / job->key_heads);
        furnish(job, span, 1, region->scratch + graft_thread_number() * region->scratch_size, &room);
        const float *key = at(job->key, span->key_start, job->key_token_stride, key_head, job->key_head_stride);
        const float *value = at(job->value, span->key_start, job->value_token_stride, key_head, job->value_head_stride);
        copy_rows(key, job->key_token_stride, room.keys, job->width, room.keys_copied);
        copy_rows(value, job->value_token_stride, room.keys, job->value_width, room.values_copied);
        transpose(room.keys_copied, room.keys, job->width, room.transposed_keys, room.key_stride);
        transpose(room.values_copied, room.keys, job->value_width, room.transposed_values, room.key_stride);
        memset(room.key_sums, 0, (size_t)(room.keys * room.width) * sizeof(float));
        memset(room.value_sums, 0, (size_t)(room.keys * room.value_width) * sizeof(float));
        each_block(job, span, &room, head, attend_backward);
        for (int64_t row = 0; row < room.keys; row++) {
            const int64_t place = (span->key_start + row) * job->heads + head;
            memcpy(job->key_gradient + place * job->width, room.key_sums + row * room.width,
                   (size_t)job->width * sizeof(float));
            memcpy(job->value_gradient + place * job->value_width, room.value_sums + row * room.value_width,
                   (size_t)job->value_width * sizeof(float));
        }
    }
}

/* The longest first, so that no thread begins a long one when the others have finished. */
static int by_work(const void *left, const void *right) {
    const struct span *a = left, *b = right;
    if (a->work != b->work) return a->work < b->work ? 1 : -1;
    if (a->key_start != b->key_start) return a->key_start < b->key_start ? -1 : 1;
    return a->first < b->first ? -1 : 1;
}

/* Spans of at most so many blocks; on the way back whole sequences, with those that only have keys, whose gradients are
 * zero. Returns how many. With spans NULL only counts. How blocks are put into spans changes no bit. */
static int64_t list_spans(const struct job *job, int back, int64_t blocks, struct span *spans) {
    int64_t count = 0, seen;
    for (int64_t sequence = 0; sequence < job->sequences; sequence++) {
        const int64_t start = job->starts[sequence], queries = job->starts[sequence + 1] - start;
        const int64_t key_start = job->key_starts[sequence], keys = job->key_starts[sequence + 1] - key_start;
        if (keys == 0 || (queries == 0 && !back)) continue;
        const int64_t rows = rows_in_block(queries, keys), step = back ? larger(1, queries) : blocks * rows;
        for (int64_t row = 0; row < larger(1, queries); row += step, count++) {
            if (spans == NULL) continue;
            struct span span = {start, key_start, keys, row, smaller(row + step, queries), rows, 0};
            visible_keys(job, &span, &seen);
            span.work = (span.end - span.first) * seen;
            spans[count] = span;
        }
    }
    return count;
}

static int run(const struct job *job, int back, graft_body body) {
    struct region region = {.job = job};
    struct room room;
    const int64_t items = list_spans(job, back, 1, NULL) * job->heads;
    const int64_t blocks = larger(1, items / (SPANS_OF_THREAD * graft_threads()));
    const int64_t count = list_spans(job, back, blocks, NULL);
    if (count == 0) return GRAFT_DONE;
    region.spans = malloc((size_t)count * sizeof(struct span));
    if (region.spans == NULL) return GRAFT_OUT_OF_MEMORY;
    list_spans(job, back, blocks, region.spans);
    qsort(region.spans, (size_t)count, sizeof(struct span), by_work);
    for (int64_t span = 0; span < count; span++)
        region.scratch_size = larger(region.scratch_size, furnish(job, &region.spans[span], back, NULL, &room));
    const int64_t workers = smaller(graft_threads(), count * job->heads);
    region.scratch = aligned_alloc(64, (size_t)(workers * region.scratch_size) * sizeof(float));
    const int result = region.scratch == NULL ? GRAFT_OUT_OF_MEMORY : GRAFT_DONE;
    if (region.scratch != NULL) graft_parallel_for(count * job->heads, 1, body, &region);
    free(region.spans);
    free(region.scratch);
    return result;
}

/* Fills output and log_sums. */
GRAFT_EXPORT int graft_attention(const struct job *job) { return run(job, 0, forward_items); }

/* Fills the three gradients, from what graft_attention has filled and the gradient of its output. */
GRAFT_EXPORT int graft_attention_backward(const struct job *job) { return run(job, 1, backward_items); }
