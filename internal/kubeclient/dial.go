package kubeclient

import (
	"context"
	"net"
	"sync"
	"time"
)

// dialRest is how long nobody tries to connect after a server was not reached.
// A replica has dozens of calls and watches waiting to go on; without it each
// would try for itself.
const dialRest = 500 * time.Millisecond

// dialer connects one call at a time, and while the server is away lets one of
// those that want to try every dialRest; the others get what that one got, at
// once. Its methods may be called from any goroutine.
type dialer struct {
	net.Dialer
	turn sync.Mutex // held while one tries

	mu    sync.Mutex
	err   error     // of the last try; nil: it connected
	until time.Time // when the next may try, if err is set
}

func (d *dialer) connect(ctx context.Context, network, address string) (net.Conn, error) {
	if err := d.away(); err != nil {
		return nil, err
	}
	d.turn.Lock()
	defer d.turn.Unlock()
	if err := d.away(); err != nil { // it was tried while we waited
		return nil, err
	}
	c, err := d.DialContext(ctx, network, address)
	if err != nil && ctx.Err() != nil {
		return nil, err // says nothing about the server
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err, d.until = err, time.Now().Add(dialRest)
	return c, err
}

// away is why the server was not reached a moment ago.
func (d *dialer) away() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil || time.Now().After(d.until) {
		return nil
	}
	return d.err
}
