package route53

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/smithy-go"
	"github.com/miekg/dns"

	"gatehouse/e2e/rig"
)

// client is the plain SDK: what the double says must mean to it what Route
// 53's words do.
func client(t *testing.T, d *Double, key string) *route53.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return route53.New(route53.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(d.URL()), Credentials: credentials.NewStaticCredentialsProvider(key, SecretKey, ""),
		HTTPClient: &http.Client{Transport: tr}, RetryMaxAttempts: 1,
	})
}

func change(c *route53.Client, zone, action, name, value string) (string, error) {
	out, err := c.ChangeResourceRecordSets(context.Background(), &route53.ChangeResourceRecordSetsInput{HostedZoneId: &zone, ChangeBatch: &types.ChangeBatch{
		Changes: []types.Change{{Action: types.ChangeAction(action), ResourceRecordSet: &types.ResourceRecordSet{
			Name: &name, Type: types.RRTypeTxt, TTL: aws.Int64(10), ResourceRecords: []types.ResourceRecord{{Value: &value}}}}}}})
	if err != nil {
		return "", err
	}
	return *out.ChangeInfo.Id, nil
}

// code is the error code the SDK reads, and the messages of a refused batch.
func code(err error) string {
	var batch *types.InvalidChangeBatch
	if errors.As(err, &batch) {
		return "InvalidChangeBatch: " + strings.Join(batch.Messages, "; ")
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return fmt.Sprint(err)
}

func TestDoubleKeepsThePolicy(t *testing.T) {
	k := rig.StartKnot(t, "office.example.org")
	d, err := New(Options{SyncDelay: 100 * time.Millisecond, DNS: &DNS{Addr: k.Addr(), KeyName: k.KeyName, Secret: k.Secret},
		Zones: []Zone{{ID: "Z1", Name: "office.example.org"}, {ID: "Z2", Name: "office.example.org", Private: true}, {ID: "Z3", Name: "example.org"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx := t.Context()
	c := client(t, d, AccessKey)
	const name = "_acme-challenge.office.example.org"
	for _, step := range []struct{ zone, action, value, says string }{
		{"Z1", "DELETE", `"a"`, "InvalidChangeBatch: Tried to delete resource record set [name='" + name + ".', type='TXT'] but it was not found"},
		{"Z1", "CREATE", `a`, "InvalidChangeBatch: Invalid Resource Record"},
		{"Z1", "CREATE", `"a"`, ""},
		{"Z1", "CREATE", `"a"`, "InvalidChangeBatch: Tried to create resource record set [name='" + name + ".', type='TXT'] but it already exists"},
		{"Z1", "UPSERT", `"b"`, ""},
		{"Z1", "DELETE", `"a"`, "InvalidChangeBatch: Tried to delete resource record set [name='" + name + ".', type='TXT'] but the values provided do not match the current values"},
		{"Z3", "CREATE", `"a"`, "AccessDenied"},
		{"Z9", "CREATE", `"a"`, "AccessDenied"},
	} {
		_, err := change(c, step.zone, step.action, name, step.value)
		if (err == nil) != (step.says == "") || err != nil && !strings.HasPrefix(code(err), step.says) {
			t.Errorf("%s %s in %s: %q, want %q", step.action, step.value, step.zone, code(err), step.says)
		}
	}
	if _, err := c.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{HostedZoneId: aws.String("Z1")}); code(err) != "AccessDenied" {
		t.Error(err)
	}
	if _, err := c.ListHostedZones(ctx, &route53.ListHostedZonesInput{}); code(err) != "AccessDenied" {
		t.Error(err)
	}
	if _, err := client(t, d, "AKIANOBODY").ListHostedZonesByName(ctx, &route53.ListHostedZonesByNameInput{}); code(err) != "InvalidClientTokenId" {
		t.Error(err)
	}
	out, err := c.ListHostedZonesByName(ctx, &route53.ListHostedZonesByNameInput{DNSName: aws.String("example.org"), MaxItems: aws.Int32(2)})
	if err != nil || len(out.HostedZones) != 2 || *out.HostedZones[0].Name != "example.org." || *out.HostedZones[1].Id != "/hostedzone/Z1" || !out.IsTruncated {
		t.Errorf("zones %+v, %v", out, err)
	}
	id, err := change(c, "Z1", "UPSERT", name, `"c"`)
	if err != nil {
		t.Fatal(err)
	}
	var seen []types.ChangeStatus
	for len(seen) < 200 && (len(seen) == 0 || seen[len(seen)-1] != types.ChangeStatusInsync) {
		got, err := c.GetChange(ctx, &route53.GetChangeInput{Id: &id})
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, got.ChangeInfo.Status)
		time.Sleep(10 * time.Millisecond)
	}
	if seen[0] != types.ChangeStatusPending || seen[len(seen)-1] != types.ChangeStatusInsync {
		t.Errorf("the change was %v", seen)
	}
	q := new(dns.Msg)
	q.SetQuestion(name+".", dns.TypeTXT)
	in, _, err := new(dns.Client).Exchange(q, k.Addr())
	if err != nil || len(in.Answer) != 1 || in.Answer[0].(*dns.TXT).Txt[0] != "c" {
		t.Errorf("the DNS shows %v, %v", in, err)
	}
	if d.Err() != nil {
		t.Error(d.Err())
	}
	calls := d.Calls()
	if last := calls[len(calls)-1]; last.Action != "GetChange" || last.Status != 200 || calls[0].Code != "InvalidChangeBatch" || len(calls[0].Changes) != 1 {
		t.Errorf("calls %+v", calls)
	}
}

func TestDoubleThrottlesAndFails(t *testing.T) {
	d, err := New(Options{RateLimit: 5, Zones: []Zone{{ID: "Z1", Name: "example.org"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c := client(t, d, AccessKey)
	count := map[string]int{}
	for range 7 {
		_, err := c.ListHostedZonesByName(t.Context(), &route53.ListHostedZonesByNameInput{})
		count[code(err)]++
	}
	if count["<nil>"] != 5 || count["Throttling"] != 2 {
		t.Errorf("%v", count)
	}
	d.Fail("GetChange", 1, 500, "InternalError")
	if _, err := c.GetChange(t.Context(), &route53.GetChangeInput{Id: aws.String("C1")}); code(err) != "InternalError" {
		t.Error(err)
	}
	resp, err := http.Post(d.URL()+"/2013-04-01/hostedzone/Z1/rrset", "text/xml", bytes.NewReader(nil))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 400 && resp.StatusCode != 403 {
		t.Errorf("without a signature: %s", resp.Status)
	}
}
