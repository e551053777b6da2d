package etcd3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"gatehouse/internal/store"
)

// session is one etcd lease of ours. over ends when it is lost, for us: the
// margin before it may be lost for etcd.
type session struct {
	id   clientv3.LeaseID
	ttl  time.Duration // as granted
	hold *store.Hold
}

func (n *session) over() context.Context { return n.hold.Context() }

// await returns the session, waiting for one.
func (s *Store) await(ctx context.Context) (*session, error) {
	s.begin.Do(func() { s.work.Go(s.live) })
	for {
		s.mu.Lock()
		n, changed := s.session, s.changed
		s.mu.Unlock()
		if n != nil && n.over().Err() == nil {
			return n, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-s.ctx.Done():
			return nil, errClosed
		}
	}
}

func (s *Store) set(n *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = n
	close(s.changed)
	s.changed = make(chan struct{})
}

// live keeps a session, for ever.
func (s *Store) live() {
	var backoff store.Backoff
	for s.ctx.Err() == nil {
		n, err := s.grant()
		if err != nil {
			if s.ctx.Err() == nil {
				next := backoff.Next()
				if backoff.News(err) {
					s.log.Warn("no session with the store", "store", s.where(), "error", err, "next", next)
				}
				store.Sleep(s.ctx, next)
			}
			continue
		}
		backoff.Reset()
		s.set(n)
		err = s.keep(n)
		n.hold.End(fmt.Errorf("%w: session %x with %s: %w", store.ErrLeaseLost, n.id, s.where(), err))
		s.set(nil)
		if s.ctx.Err() == nil {
			s.log.Warn("session with the store lost, beginning another", "store", s.where(), "session", fmt.Sprintf("%x", n.id), "error", err)
		}
		// Renewals that reached etcd without its answer reaching us have
		// prolonged it; nobody shall wait for that.
		s.work.Go(func() { s.revoke(n) })
	}
}

func (s *Store) grant() (*session, error) {
	n := &session{}
	err := s.call(s.ctx, callTimeout, func(ctx context.Context, c *clientv3.Client) error {
		sent := time.Now()
		r, err := c.Grant(ctx, int64((s.o.TTL+time.Second-1)/time.Second))
		if err != nil {
			return err
		}
		n.id, n.ttl = r.ID, time.Duration(r.TTL)*time.Second
		// Not under s.ctx: End says why it was lost.
		n.hold = store.NewHold(context.Background(), n.until(sent))
		return nil
	})
	return n, err
}

// until is when a session renewed by a message sent at this time ends for us.
func (n *session) until(sent time.Time) time.Time { return sent.Add(n.ttl - store.Margin(n.ttl)) }

// keep renews the session until it is lost.
func (s *Store) keep(n *session) error {
	wait, last := n.ttl/3, errors.New("not renewed in time")
	for {
		select {
		case <-s.ctx.Done():
			return errClosed
		case <-n.over().Done():
			return last
		case <-time.After(wait):
		}
		sent := time.Now()
		err := s.call(n.over(), n.ttl/3, n.renew)
		switch {
		case err == nil && n.hold.Extend(n.until(sent)):
			wait = n.ttl / 3
		case err == nil:
			return last
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			return err
		default:
			last = fmt.Errorf("not renewed in time: %w", err)
			wait = n.ttl / 20
		}
	}
}

// renew asks for one renewal. KeepAliveOnce of etcd's client would ask again
// and again, without a pause, while the server is down.
func (n *session) renew(ctx context.Context, c *clientv3.Client) error {
	stream, err := pb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(n.id)}); err != nil && !errors.Is(err, io.EOF) {
		return err // EOF: Recv says why
	}
	r, err := stream.Recv()
	if err != nil {
		return err
	}
	if r.TTL <= 0 {
		return rpctypes.ErrLeaseNotFound
	}
	return stream.CloseSend()
}

// revoke ends a session for etcd, until it is or has run out anyway.
func (s *Store) revoke(n *session) {
	ctx, cancel := context.WithTimeout(context.Background(), n.ttl)
	defer cancel()
	if s.ctx.Err() != nil { // closing: one attempt
		ctx, cancel = context.WithTimeout(ctx, time.Second)
		defer cancel()
	}
	var backoff store.Backoff
	for {
		err := s.call(ctx, callTimeout, func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Revoke(ctx, n.id)
			return err
		})
		if err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound) || s.ctx.Err() != nil || !store.Sleep(ctx, backoff.Next()) {
			return
		}
	}
}

// insist does something to keys of a session until it is done, or has become
// needless because the session is over.
func (s *Store) insist(n *session, what string, do func(context.Context) error) {
	var backoff store.Backoff
	for n.over().Err() == nil {
		err := do(n.over())
		if err == nil || n.over().Err() != nil {
			return
		}
		next := backoff.Next()
		if backoff.News(err) {
			s.log.Warn(what, "store", s.where(), "error", err, "next", next)
		}
		store.Sleep(n.over(), next)
	}
}
