package config

import "reflect"

// SameSettings says whether a and b, both in the normal form, set the same,
// wherever it is written.
func SameSettings(a, b *Static) bool {
	x, y := *a, *b
	x.origins, y.origins = nil, nil
	return reflect.DeepEqual(&x, &y)
}
