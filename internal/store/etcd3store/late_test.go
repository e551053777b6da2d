package etcd3store

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"gatehouse/e2e/rig"
	"gatehouse/internal/store"
)

// courier carries a store's requests to etcd, but keeps the first one that
// takes a place in a queue back until it is told to deliver it.
type courier struct {
	kept    chan struct{} // closed when there is one
	deliver chan struct{} // closed by the test
	done    chan error    // what became of it
	direct  *clientv3.Client
	used    atomic.Bool
}

// openLate opens a store whose requests go by a courier.
func openLate(t *testing.T, endpoint string, o Options) (*Store, *courier) {
	t.Helper()
	k := &courier{kept: make(chan struct{}), deliver: make(chan struct{}), done: make(chan error, 1)}
	dial := func(opts ...grpc.DialOption) *clientv3.Client {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop(), DialOptions: opts})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	k.direct = dial()
	t.Cleanup(func() { _ = k.direct.Close() })
	s := open(t, o)
	s.client = dial(grpc.WithChainUnaryInterceptor(k.carry))
	return s, k
}

func (k *courier) carry(ctx context.Context, method string, req, reply any, c *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	txn, ok := req.(*pb.TxnRequest)
	if !ok || !takesPlace(txn) || !k.used.CompareAndSwap(false, true) {
		return invoke(ctx, method, req, reply, c, opts...)
	}
	close(k.kept)
	answer := make(chan error, 1)
	go func() {
		<-k.deliver
		err := k.direct.ActiveConnection().Invoke(context.WithoutCancel(ctx), method, req, reply)
		answer <- err
		k.done <- err
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func takesPlace(txn *pb.TxnRequest) bool {
	for _, op := range txn.Success {
		if put := op.GetRequestPut(); put != nil && strings.Contains(string(put.Key), ".queue/") {
			return true
		}
	}
	return false
}

// TestLatePlace: a place in the queue that is written when nobody means to
// stand there any more keeps no other replica from the lease, while the
// replica it is of lives on.
func TestLatePlace(t *testing.T) {
	etcd := rig.StartEtcd(t)
	for name, giveUp := range map[string]func(*Store, context.CancelFunc){
		"given up": func(_ *Store, cancel context.CancelFunc) { cancel() },
		"never answered": func(_ *Store, cancel context.CancelFunc) {
			cancel()
			time.Sleep(callTimeout + 500*time.Millisecond)
		},
		"its session has ended": func(s *Store, cancel context.CancelFunc) {
			s.mu.Lock()
			n := s.session
			s.mu.Unlock()
			n.hold.End(errors.New("the test ends it"))
			for again := n; again == n || again == nil; time.Sleep(10 * time.Millisecond) {
				s.mu.Lock()
				again = s.session
				s.mu.Unlock()
			}
			cancel()
		},
	} {
		t.Run(name, func(t *testing.T) {
			prefix := strings.ReplaceAll(name, " ", "-")
			one, k := openLate(t, etcd.Endpoint(), Options{Endpoints: []string{etcd.Endpoint()}, Prefix: prefix, Replica: "one"})
			two := open(t, Options{Endpoints: []string{etcd.Endpoint()}, Prefix: prefix, Replica: "two"})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := one.Acquire(ctx, "x")
				ended <- err
			}()
			<-k.kept
			giveUp(one, cancel)
			time.Sleep(200 * time.Millisecond) // whoever cleans up too soon has done so
			close(k.deliver)
			t.Logf("the late write: %v", <-k.done)
			if err := <-ended; err == nil {
				t.Error("acquired, though nobody wants it any more")
			}
			soon, stop := context.WithTimeout(t.Context(), 2*ttl)
			defer stop()
			l, err := two.Acquire(soon, "x")
			if err != nil {
				t.Fatalf("the other replica waits behind a place nobody stands at: %v", err)
			}
			_ = l.Release(t.Context())
			_, err = one.Put(t.Context(), "alive", nil, "")
			if err != nil && !errors.Is(err, store.ErrConflict) {
				t.Error(err)
			}
		})
	}
}
