/* One frame into progressive JPEG (ITU-T T.81 annex G), by the API of libjpeg.
 *
 * TurboJPEG's own API knows full progression only, and chooses the scans itself. Errors of the library
 * end in a jump back to `pyserver_jpeg_encode`, across frames of C alone: Rust is not called from here.
 */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include <jerror.h>

enum { COMPONENTS_MAX = 3, SINK_FIRST_BYTES = 64 * 1024, SAMPLE_MAX_12 = 4095 };

/* Mirrored in lib.rs. */
struct frame {
    const uint8_t *samples; /* row by row, pixel by pixel; of 12 bits: two bytes each, little endian */
    uint32_t rows, columns, components, precision;
    int32_t quality;
    int32_t from_rgb;         /* three components are RGB, to be coded as YCbCr */
    int32_t full_progression; /* or spectral selection alone */
};

struct codestream {
    uint8_t *bytes;
    size_t length;
    char message[JMSG_LENGTH_MAX];
};

_Static_assert(JMSG_LENGTH_MAX == 200, "MESSAGE_BYTES of lib.rs");
_Static_assert(JPEG_MAX_DIMENSION == 65500, "SIDE_MAX of lib.rs");

struct sink {
    struct jpeg_destination_mgr pub; /* first: the library knows this part */
    uint8_t *bytes;
    size_t capacity;
};

struct failure {
    struct jpeg_error_mgr pub; /* first: the library knows this part */
    jmp_buf back;
};

static void fail(j_common_ptr cinfo) { longjmp(((struct failure *)cinfo->err)->back, 1); }

static void say_nothing(j_common_ptr cinfo) { (void)cinfo; }

static void set_room(struct sink *sink, uint8_t *bytes, size_t used, size_t capacity) {
    sink->bytes = bytes;
    sink->capacity = capacity;
    sink->pub.next_output_byte = bytes + used;
    sink->pub.free_in_buffer = capacity - used;
}

static void open_sink(j_compress_ptr cinfo) {
    uint8_t *bytes = malloc(SINK_FIRST_BYTES);
    if (!bytes) ERREXIT1(cinfo, JERR_OUT_OF_MEMORY, 10);
    set_room((struct sink *)cinfo->dest, bytes, 0, SINK_FIRST_BYTES);
}

/* The library calls this when every byte is used, whatever free_in_buffer says then. */
static boolean grow_sink(j_compress_ptr cinfo) {
    struct sink *sink = (struct sink *)cinfo->dest;
    uint8_t *bytes = realloc(sink->bytes, sink->capacity * 2);
    if (!bytes) ERREXIT1(cinfo, JERR_OUT_OF_MEMORY, 11);
    set_room(sink, bytes, sink->capacity, sink->capacity * 2);
    return TRUE;
}

static void close_sink(j_compress_ptr cinfo) { (void)cinfo; }

/* DC of all components in one scan, then for each a scan of AC 1 to 5 and one of 6 to 63, all with
 * every bit: successive approximation would be full progression. Only DC scans may be interleaved
 * (T.81 G.1.1.1.1). */
static int spectral_scans(jpeg_scan_info *scans, int components) {
    static const int bands[][2] = { { 1, 5 }, { 6, DCTSIZE2 - 1 } };
    int count = 0;
    scans[count] = (jpeg_scan_info){ .comps_in_scan = components };
    for (int i = 0; i < components; i++) scans[count].component_index[i] = i;
    count++;
    for (size_t band = 0; band < sizeof bands / sizeof *bands; band++)
        for (int i = 0; i < components; i++)
            scans[count++] = (jpeg_scan_info){ .comps_in_scan = 1,
                                               .component_index = { i },
                                               .Ss = bands[band][0],
                                               .Se = bands[band][1] };
    return count;
}

static void write_rows_8(j_compress_ptr cinfo, const struct frame *frame) {
    size_t stride = (size_t)frame->columns * frame->components;
    while (cinfo->next_scanline < cinfo->image_height) {
        /* The library only reads it. */
        JSAMPROW row = (JSAMPROW)(frame->samples + cinfo->next_scanline * stride);
        jpeg_write_scanlines(cinfo, &row, 1);
    }
}

static void write_rows_12(j_compress_ptr cinfo, const struct frame *frame) {
    size_t count = (size_t)frame->columns * frame->components;
    J12SAMPROW row = cinfo->mem->alloc_large((j_common_ptr)cinfo, JPOOL_IMAGE, count * sizeof *row);
    const uint8_t *at = frame->samples;
    while (cinfo->next_scanline < cinfo->image_height) {
        for (size_t i = 0; i < count; i++, at += 2) {
            int sample = at[0] | at[1] << 8;
            /* lib.rs refuses larger ones; past this the library's tables would be left. */
            row[i] = (J12SAMPLE)(sample & SAMPLE_MAX_12);
        }
        jpeg12_write_scanlines(cinfo, &row, 1);
    }
}

struct job {
    struct jpeg_compress_struct cinfo;
    struct failure failure;
    struct sink sink;
    jpeg_scan_info scans[1 + 2 * COMPONENTS_MAX];
};

static void encode(struct job *job, const struct frame *frame) {
    j_compress_ptr cinfo = &job->cinfo;
    jpeg_create_compress(cinfo);
    cinfo->dest = &job->sink.pub;
    cinfo->dest->init_destination = open_sink;
    cinfo->dest->empty_output_buffer = grow_sink;
    cinfo->dest->term_destination = close_sink;
    cinfo->image_width = frame->columns;
    cinfo->image_height = frame->rows;
    cinfo->input_components = (int)frame->components;
    cinfo->in_color_space = frame->components == 1 ? JCS_GRAYSCALE : frame->from_rgb ? JCS_RGB : JCS_YCbCr;
    cinfo->data_precision = (int)frame->precision;
    jpeg_set_defaults(cinfo);
    /* TRUE: no quantisation step above 255, as sequential JPEG has it here. */
    jpeg_set_quality(cinfo, frame->quality, TRUE);
    /* No subsampling: colours stay where they are. */
    cinfo->comp_info[0].h_samp_factor = cinfo->comp_info[0].v_samp_factor = 1;
    if (frame->full_progression) {
        jpeg_simple_progression(cinfo);
    } else {
        cinfo->num_scans = spectral_scans(job->scans, cinfo->num_components);
        cinfo->scan_info = job->scans;
    }
    jpeg_start_compress(cinfo, TRUE);
    if (frame->precision == 12) write_rows_12(cinfo, frame);
    else write_rows_8(cinfo, frame);
    jpeg_finish_compress(cinfo);
}

/* The job belongs to the caller: what is local here would not be safe after the jump. */
static int attempt(struct job *job, const struct frame *frame) {
    if (setjmp(job->failure.back)) return 1;
    encode(job, frame);
    return 0;
}

/* 0 and a codestream for `pyserver_jpeg_free`, or 1 and a message. */
int pyserver_jpeg_encode(const struct frame *frame, struct codestream *out) {
    struct job job = { 0 };
    job.cinfo.err = jpeg_std_error(&job.failure.pub);
    job.failure.pub.error_exit = fail;
    job.failure.pub.output_message = say_nothing;
    int failed = attempt(&job, frame);
    if (failed) {
        job.failure.pub.format_message((j_common_ptr)&job.cinfo, out->message);
        free(job.sink.bytes);
    } else {
        out->bytes = job.sink.bytes;
        out->length = job.sink.capacity - job.sink.pub.free_in_buffer;
    }
    jpeg_destroy_compress(&job.cinfo);
    return failed;
}

void pyserver_jpeg_free(uint8_t *bytes) { free(bytes); }
