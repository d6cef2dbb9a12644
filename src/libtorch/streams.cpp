// What torch_api.cpp calls for streams of Rust's: those are functions of the program, which this library cannot see, and
// nothing of Outskirt's reads or writes tensors through them. They fail.
#include <cstddef>
#include <cstdint>

extern "C" {
bool tch_write_stream_destructor(void *) { return false; }
bool tch_write_stream_write(void *, const uint8_t *, size_t, size_t *) { return false; }
bool tch_read_stream_destructor(void *) { return false; }
bool tch_read_stream_stream_position(void *, uint64_t *) { return false; }
bool tch_read_stream_seek_start(void *, uint64_t, uint64_t *) { return false; }
bool tch_read_stream_seek_end(void *, int64_t, uint64_t *) { return false; }
bool tch_read_stream_read(void *, uint8_t *, size_t, size_t *) { return false; }
}
