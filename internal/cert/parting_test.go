package cert

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestParting: a turn's lease ends with its process at once, or with the answer
// that is on its way, or when that takes too long; nothing is begun then.
func TestParting(t *testing.T) {
	for name, c := range map[string]struct {
		answer time.Duration // after the process was asked to end; negative: nothing is awaited
		ends   time.Duration
	}{
		"nothing awaited": {-1, 0},
		"an answer":       {3 * time.Second, 3 * time.Second},
		"no answer":       {time.Minute, answerLimit},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				process, stop := context.WithCancelCause(t.Context())
				p := newParting(process)
				answered, err := p.await()
				if err != nil {
					t.Fatal(err)
				}
				if c.answer < 0 {
					answered()
				}
				time.Sleep(time.Hour)
				if p.ctx.Err() != nil {
					t.Fatal("it ended before the process")
				}
				why := errors.New("told to end")
				began := time.Now()
				stop(why)
				if _, err := p.await(); !errors.Is(err, ErrEnding) {
					t.Errorf("something may begin: %v", err)
				}
				if c.answer > 0 {
					time.AfterFunc(c.answer, answered)
				}
				<-p.ctx.Done()
				if took := time.Since(began); took != c.ends || context.Cause(p.ctx) != why {
					t.Errorf("it ended after %s (%v), want %s", took, context.Cause(p.ctx), c.ends)
				}
				p.over()
			})
		})
	}
}

// TestPartingOfATurn: a turn that is over leaves nothing behind.
func TestPartingOfATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		process, stop := context.WithCancel(t.Context())
		p := newParting(process)
		if _, err := p.await(); err != nil {
			t.Fatal(err)
		}
		stop()
		synctest.Wait()
		p.over()
		if p.ctx.Err() == nil || p.limit == nil || p.limit.Stop() {
			t.Error("it is not over")
		}
	})
}
