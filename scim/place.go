package scim

import "context"

type placeKey struct{}

// WithPlace returns a context of a request that has one of a bounded number of places,
// which leave gives back. leave may be called more than once.
func WithPlace(ctx context.Context, leave func()) context.Context {
	return context.WithValue(ctx, placeKey{}, leave)
}

// LeavePlace gives the place of a request back for good, on a Route that Waits. Call it before a wait that does
// no work, or those who wait keep out those who work.
func LeavePlace(ctx context.Context) {
	if leave, ok := ctx.Value(placeKey{}).(func()); ok {
		leave()
	}
}
