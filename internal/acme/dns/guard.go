package dns

import "context"

type guardKey struct{}

// Guard gives ctx a question that a provider asks before it sends a change
// again: whether whoever wants it may still change anything. A process that was
// stopped for longer than its lease goes on in the middle of a call, before any
// timer of its context has fired.
func Guard(ctx context.Context, held func() error) context.Context {
	return context.WithValue(ctx, guardKey{}, held)
}

// Held answers it; nil: yes, or nobody guards ctx.
func Held(ctx context.Context) error {
	if held, ok := ctx.Value(guardKey{}).(func() error); ok {
		if err := held(); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}
