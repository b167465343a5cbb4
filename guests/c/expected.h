/* Written by ../expected.py: what the built-in workloads must answer. */
#define EXPECTED_SHA_PATTERN "9c004c0c991f72f0b7304889e3e8b4b3051cfeef"
#define EXPECTED_CRC32_PATTERN 0x4b575c08u
#define EXPECTED_SUSAN_IMAGE 0x36e76b8au
#define EXPECTED_SUSAN_SMOOTH 0x63d8091cu
#define EXPECTED_SUSAN_EDGES 0x56230f45u
#define EXPECTED_SUSAN_CORNERS 0x1d21cb6cu
