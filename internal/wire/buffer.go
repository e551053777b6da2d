package wire

import "sync"

// Sizes of pooled buffers: a request head and most of its kind; an answer
// with a short body; a long body or an unusually long head.
const (
	SmallSize  = 4 << 10
	MediumSize = 16 << 10
	LargeSize  = 64 << 10
)

// The pools hold pointers to arrays, which cost no allocation to keep.
var (
	small  = sync.Pool{New: func() any { return new([SmallSize]byte) }}
	medium = sync.Pool{New: func() any { return new([MediumSize]byte) }}
	large  = sync.Pool{New: func() any { return new([LargeSize]byte) }}
)

// Buffer gives a buffer of at least size bytes, empty of meaning: it holds
// whatever its last user left. Above LargeSize it is newly made. Give it back
// with Free.
func Buffer(size int) []byte {
	switch {
	case size <= SmallSize:
		return small.Get().(*[SmallSize]byte)[:]
	case size <= MediumSize:
		return medium.Get().(*[MediumSize]byte)[:]
	case size <= LargeSize:
		return large.Get().(*[LargeSize]byte)[:]
	}
	return make([]byte, size)
}

// Free takes a buffer back; b may be any slice of what Buffer gave that still
// begins where it began. nil is fine. Nobody may use the buffer afterwards.
func Free(b []byte) {
	switch cap(b) {
	case SmallSize:
		small.Put((*[SmallSize]byte)(b[:SmallSize]))
	case MediumSize:
		medium.Put((*[MediumSize]byte)(b[:MediumSize]))
	case LargeSize:
		large.Put((*[LargeSize]byte)(b[:LargeSize]))
	}
}
