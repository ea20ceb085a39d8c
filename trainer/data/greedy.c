/* Greedy longest match of byte strings in a double-array trie (Aoe, 1989).
 *
 * A node is a place in `cells`. Its child by a byte is at base + byte, if the cell there names it as its parent.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BYTES 256
#define NOBODY -1

typedef struct {
    int32_t base, parent;
    int32_t id; /* of the token that ends here, or NOBODY */
} Cell;

typedef struct {
    Cell *cells;
    int64_t size, first_free;
    const uint8_t **tokens; /* while it is built: sorted by their bytes */
    const int32_t *lengths, *ids;
} Trie;

static int reserve(Trie *trie, int64_t size) {
    if (size <= trie->size) return 1;
    size += size / 2;
    Cell *cells = realloc(trie->cells, (size_t)size * sizeof *cells);
    if (!cells) return 0;
    for (int64_t i = trie->size; i < size; i++) cells[i] = (Cell){0, NOBODY, NOBODY};
    trie->cells = cells, trie->size = size;
    return 1;
}

/* A base at which all of a node's bytes (ascending) find free cells; NOBODY: no memory. */
static int64_t free_base(Trie *trie, const uint8_t *bytes, int n) {
    while (trie->first_free < trie->size && trie->cells[trie->first_free].parent != NOBODY) trie->first_free++;
    int64_t base = trie->first_free > bytes[0] ? trie->first_free - bytes[0] : 1;
    for (;; base++) {
        if (!reserve(trie, base + BYTES)) return NOBODY;
        int i = 0;
        while (i < n && trie->cells[base + bytes[i]].parent == NOBODY) i++;
        if (i == n) return base;
    }
}

/* Place the children of a node: tokens[from, to) share its first `depth` bytes. */
static int place(Trie *trie, int64_t node, int64_t from, int64_t to, int32_t depth) {
    if (from < to && trie->lengths[from] == depth) trie->cells[node].id = trie->ids[from++];
    uint8_t bytes[BYTES];
    int64_t begins[BYTES + 1];
    int n = 0;
    for (int64_t i = from; i < to; i++)
        if (!n || trie->tokens[i][depth] != bytes[n - 1]) bytes[n] = trie->tokens[i][depth], begins[n++] = i;
    if (!n) return 1;
    begins[n] = to;
    const int64_t base = free_base(trie, bytes, n);
    if (base == NOBODY || base > INT32_MAX - BYTES) return 0;
    trie->cells[node].base = (int32_t)base;
    for (int i = 0; i < n; i++) trie->cells[base + bytes[i]].parent = (int32_t)node;
    for (int i = 0; i < n; i++)
        if (!place(trie, base + bytes[i], begins[i], begins[i + 1], depth + 1)) return 0;
    return 1;
}

void trie_free(Trie *trie) {
    free(trie->cells);
    free(trie);
}

/* Tokens: `text` holds them one after the other, sorted, none empty and none twice. NULL: no memory. */
Trie *trie_new(const uint8_t *text, const int32_t *lengths, const int32_t *ids, int64_t n) {
    Trie *trie = calloc(1, sizeof *trie);
    if (!trie) return NULL;
    trie->tokens = malloc((size_t)n * sizeof *trie->tokens);
    trie->lengths = lengths, trie->ids = ids, trie->first_free = 1;
    int done = trie->tokens && reserve(trie, 2 * BYTES);
    if (done) {
        trie->cells[0].parent = 0;
        for (int64_t i = 0; i < n; i++) trie->tokens[i] = text, text += lengths[i];
        done = place(trie, 0, 0, n, 0);
    }
    free(trie->tokens);
    if (done) return trie;
    trie_free(trie);
    return NULL;
}

/* Ids of the tokens of text[0, n), at most n; how many they are. Every single byte has to be a token. */
int64_t trie_encode(const Trie *trie, const uint8_t *text, int64_t n, int32_t *ids) {
    const Cell *cells = trie->cells;
    int64_t found = 0;
    for (int64_t at = 0; at < n;) {
        int32_t node = 0, id = NOBODY;
        int64_t end = at;
        for (int64_t i = at; i < n; i++) {
            const int32_t child = cells[node].base + text[i];
            if (cells[child].parent != node) break;
            node = child;
            if (cells[node].id != NOBODY) id = cells[node].id, end = i + 1;
        }
        if (end == at) return NOBODY;
        ids[found++] = id, at = end;
    }
    return found;
}
