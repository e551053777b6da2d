package proxy

import (
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/upstream"
)

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := upstream.NewRegistry(upstream.Options{})
		set, _ := reg.Build(map[string]config.Service{}, 0)
		d := newDrain(set)
		gone := func() bool { synctest.Wait(); return d.services.Load() == nil }
		for range 2 {
			if !d.enter() {
				t.Fatal("a fresh drain refuses")
			}
		}
		d.leave()
		d.retire(time.Minute)
		if gone() || !d.enter() {
			t.Error("a user was forgotten")
		}
		d.leave()
		d.leave()
		if !gone() || d.enter() {
			t.Error("the last user left, and it goes on")
		}

		// A user that never leaves holds it for the bound, no longer.
		d = newDrain(set)
		d.enter()
		d.retire(time.Minute)
		time.Sleep(59 * time.Second)
		if gone() {
			t.Error("let go too early")
		}
		time.Sleep(2 * time.Second)
		if !gone() {
			t.Error("held beyond the bound")
		}
		d.leave()
		if d.enter() {
			t.Error("a drained snapshot took a request")
		}
	})
}
