package cert

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/store"
)

// TestHopelessNamesStarveNobody: names that fail again and again, each time after
// a long wait for their DNS, do not take all slots from renewals.
func TestHopelessNamesStarveNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 6*day)
		names := []string{"good.example.com"}
		for i := range 80 {
			names = append(names, fmt.Sprintf("bad%d.example.com", i))
		}
		r := start(t, store.NewMem(0), ca, "a", wantNames(names...), func(c *client, o *Options) {
			o.MaxParallel = 2
			c.onObtain = func(ctx context.Context, req Request) error {
				if strings.HasPrefix(req.Names[0], "good") {
					return nil
				}
				select {
				case <-ctx.Done():
				case <-time.After(15 * time.Minute):
				}
				return errors.New("the zone does not show the record")
			}
		})
		for r.served("good.example.com") == nil {
			time.Sleep(time.Hour)
		}
		for range 2 * 24 * 12 {
			time.Sleep(30 * time.Minute)
			leaf := r.mustServe("good.example.com")
			if left := time.Until(leaf.NotAfter); left < 2*day {
				t.Fatalf("it is not renewed: %s of 6 days are left", left)
			}
		}
	})
}
