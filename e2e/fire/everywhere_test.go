package fire

import (
	"flag"
	"sync"
	"testing"
	"time"

	"gatehouse/e2e/rig/smallca"
)

var renewals = flag.Int("fire.renewals", 0, "renewals followed to every replica, one after the other; 0: the short form")

// TestEverywhere: a certificate is served by every replica soon after the CA has
// signed it. That holds its download, the store and its watches.
func TestEverywhere(t *testing.T) {
	trials, most := 3, 20*time.Second // beside other tests
	if *renewals > 0 {
		trials, most = *renewals, time.Second
	}
	c := gather(t, crowdOptions{replicas: *replicas, names: trials})
	must(t, c.seed(t.Context()))
	must(t, c.startAll())
	c.allServed(t)
	var all []time.Duration
	for n := range trials {
		began := time.Now()
		must(t, c.renewOne(t.Context(), n))
		served := make([]time.Time, c.replicas)
		var watching sync.WaitGroup
		for i := range served {
			watching.Go(func() { served[i] = c.renewed(i, c.name(n), began, time.Minute) })
		}
		watching.Wait()
		signed := c.signedSince(began)
		for i, at := range served {
			if at.IsZero() || signed.IsZero() {
				t.Fatalf("%s: replica %d serves no new certificate after a minute", c.name(n), i+1)
			}
			all = append(all, at.Sub(signed))
		}
	}
	p99 := quantile(all, 0.99)
	t.Logf("%d renewals, %d replicas: from the CA's signature until it is served p50 %s, p99 %s, %s at most",
		trials, c.replicas, quantile(all, 0.5).Round(time.Millisecond), p99.Round(time.Millisecond), quantile(all, 1).Round(time.Millisecond))
	if p99 > most {
		t.Errorf("p99 is %s, want at most %s", p99, most)
	}
}

// renewed says when a replica first serves a certificate of name that was signed
// after since, 5 ms too late at most; zero: it does not.
func (c *crowd) renewed(replica int, name string, since time.Time, patience time.Duration) time.Time {
	for time.Since(since) < patience {
		client, _, err := c.greet(replica, name, patience)
		if err == nil {
			serial := client.ConnectionState().PeerCertificates[0].SerialNumber.Text(16)
			_ = client.Close()
			if c.isNew(serial, since) {
				return time.Now()
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Time{}
}

// isNew tells whether a certificate was signed after since.
func (c *crowd) isNew(serial string, since time.Time) (is bool) {
	c.ca.Seen(func(s *smallca.Counts) {
		for _, one := range s.Issued {
			is = is || one.Serial == serial && one.Signed.After(since)
		}
	})
	return is
}

// signedSince is when the first certificate after since was signed.
func (c *crowd) signedSince(since time.Time) (at time.Time) {
	c.ca.Seen(func(s *smallca.Counts) {
		for _, one := range s.Issued {
			if one.Signed.After(since) && (at.IsZero() || one.Signed.Before(at)) {
				at = one.Signed
			}
		}
	})
	return at
}
