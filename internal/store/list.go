package store

import "context"

// List reads all entries under prefix once, as Watch yields them first: one
// recursive read. An error is the first trouble; nothing is tried again.
func List(ctx context.Context, s Store, prefix string) ([]Entry, error) {
	for entries, err := range s.Watch(ctx, prefix) {
		return entries, err
	}
	return nil, context.Cause(ctx)
}
