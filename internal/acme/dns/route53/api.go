package route53

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/smithy-go"
)

// newClient configures the SDK. It reads the process's environment and the
// shared files itself; what getenv gives comes first.
func newClient(getenv func(string) string, timing Timing) (*route53.Client, error) {
	attempts := 6
	if v := getenv("AWS_MAX_ATTEMPTS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("AWS_MAX_ATTEMPTS=%q: must be a number from 1", v)
		}
		attempts = n
	}
	opts := []func(*config.LoadOptions) error{
		config.WithDefaultRegion("us-east-1"), // the service is global; only the signature wants one
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(30 * time.Second)),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = attempts, timing.Backoff })
		}),
	}
	if v := first(getenv, "AWS_REGION", "AWS_DEFAULT_REGION"); v != "" {
		opts = append(opts, config.WithRegion(v))
	}
	if v := getenv("AWS_PROFILE"); v != "" {
		opts = append(opts, config.WithSharedConfigProfile(v))
	}
	if key := getenv("AWS_ACCESS_KEY_ID"); key != "" {
		secret := getenv("AWS_SECRET_ACCESS_KEY")
		if secret == "" {
			return nil, errors.New("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not")
		}
		opts = append(opts, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(key, secret, getenv("AWS_SESSION_TOKEN"))))
	}
	if strings.EqualFold(getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		opts = append(opts, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	// Only files and the environment are read here, nothing that blocks.
	cfg, err := config.LoadDefaultConfig(context.Background(), opts...)
	if err != nil {
		return nil, fmt.Errorf("read the AWS configuration: %w", err)
	}
	return route53.NewFromConfig(cfg, func(o *route53.Options) {
		// Only here: the SDK adds AWS_CA_BUNDLE to no client but its own.
		o.HTTPClient = &pacedClient{inner: o.HTTPClient, spacing: timing.Spacing}
		if v := first(getenv, "AWS_ENDPOINT_URL_ROUTE_53", "AWS_ENDPOINT_URL"); v != "" {
			o.BaseEndpoint = aws.String(v)
		}
	}), nil
}

func first(getenv func(string) string, names ...string) string {
	for _, n := range names {
		if v := getenv(n); v != "" {
			return v
		}
	}
	return ""
}

// api is the five calls used, with errors a person can act on.
type api struct{ client *route53.Client }

// change applies the works in one change batch and gives its ID.
func (a api) change(ctx context.Context, zoneID string, works []*work) (string, error) {
	batch := &types.ChangeBatch{Comment: aws.String("gatehouse: ACME DNS-01")}
	for _, w := range works {
		batch.Changes = append(batch.Changes, w.changes()...)
	}
	out, err := a.client.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{HostedZoneId: &zoneID, ChangeBatch: batch})
	if err != nil {
		return "", explain(err, "ChangeResourceRecordSets", "zone "+zoneID, "arn:aws:route53:::hostedzone/"+zoneID)
	}
	return strings.TrimPrefix(aws.ToString(out.ChangeInfo.Id), "/change/"), nil
}

func (a api) insync(ctx context.Context, changeID string) (bool, error) {
	out, err := a.client.GetChange(ctx, &route53.GetChangeInput{Id: &changeID})
	if err != nil {
		return false, explain(err, "GetChange", "change "+changeID, "*")
	}
	return out.ChangeInfo.Status == types.ChangeStatusInsync, nil
}

// readSet reads the TXT set at a name; empty if there is none.
func (a api) readSet(ctx context.Context, zoneID, name string) (rrset, error) {
	out, err := a.client.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{
		HostedZoneId: &zoneID, StartRecordName: &name, StartRecordType: types.RRTypeTxt, MaxItems: aws.Int32(1),
	})
	if err != nil {
		return rrset{}, explain(err, "ListResourceRecordSets", "zone "+zoneID, "arn:aws:route53:::hostedzone/"+zoneID)
	}
	for _, s := range out.ResourceRecordSets {
		if s.Type != types.RRTypeTxt || !strings.EqualFold(strings.TrimSuffix(aws.ToString(s.Name), "."), name) {
			continue
		}
		var values []string
		for _, r := range s.ResourceRecords {
			values = append(values, unquote(aws.ToString(r.Value)))
		}
		return newSet(aws.ToInt64(s.TTL), values...), nil
	}
	return rrset{}, nil
}

// page is the zones from a name on, in Route 53's order (by reversed labels).
type page struct {
	zones []zone
	more  bool
}

type zone struct {
	id, name string
	private  bool
}

func (a api) zonesFrom(ctx context.Context, name string) (page, error) {
	out, err := a.client.ListHostedZonesByName(ctx, &route53.ListHostedZonesByNameInput{DNSName: &name, MaxItems: aws.Int32(100)})
	if err != nil {
		return page{}, explain(err, "ListHostedZonesByName", "name "+name, "*")
	}
	p := page{more: out.IsTruncated}
	for _, z := range out.HostedZones {
		p.zones = append(p.zones, zone{
			id: bareZoneID(aws.ToString(z.Id)), name: strings.ToLower(strings.TrimSuffix(aws.ToString(z.Name), ".")),
			private: z.Config != nil && z.Config.PrivateZone,
		})
	}
	return p, nil
}

func bareZoneID(id string) string { return strings.TrimPrefix(id, "/hostedzone/") }

// Error is what Route 53, or the way to it, had against a request.
type Error struct {
	Action    string // "ChangeResourceRecordSets"
	Object    string // "zone Z123"
	Code      string // "AccessDenied"; empty: no answer of the API
	Message   string
	RequestID string
	Hint      string // what the operator has to do; may be empty
	err       error
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "route53 %s for %s: ", e.Action, e.Object)
	if e.Code != "" {
		b.WriteString(e.Code + ": ")
	}
	b.WriteString(e.Message)
	if e.RequestID != "" {
		b.WriteString(" (request " + e.RequestID + ")")
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap gives the SDK's error.
func (e *Error) Unwrap() error { return e.err }

func explain(err error, action, object, arn string) error {
	e := &Error{Action: action, Object: object, Message: err.Error(), err: err}
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		e.RequestID = response.ServiceRequestID()
	}
	var coded smithy.APIError
	if errors.As(err, &coded) {
		e.Code, e.Message = coded.ErrorCode(), coded.ErrorMessage()
	}
	var batch *types.InvalidChangeBatch
	if errors.As(err, &batch) && len(batch.Messages) > 0 {
		e.Message = strings.Join(batch.Messages, "; ")
	}
	var signing *smithy.OperationError
	switch {
	case isDenied(err):
		e.Hint = "the IAM policy must allow route53:" + action + " on " + arn
	case e.Code == "InvalidClientTokenId" || e.Code == "SignatureDoesNotMatch" || e.Code == "UnrecognizedClientException":
		e.Hint = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the clock"
	case e.Code == "NoSuchHostedZone":
		e.Hint = "check AWS_HOSTED_ZONE_ID"
	case e.Code == "" && errors.As(err, &signing) && strings.Contains(err.Error(), "credentials"):
		e.Hint = "give credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or an instance role"
	}
	return e
}

func isDenied(err error) bool {
	var coded smithy.APIError
	return errors.As(err, &coded) && (coded.ErrorCode() == "AccessDenied" || coded.ErrorCode() == "AccessDeniedException")
}

// invalidBatch gives the messages if the batch was refused as a whole.
func invalidBatch(err error) ([]string, bool) {
	var batch *types.InvalidChangeBatch
	if !errors.As(err, &batch) {
		return nil, false
	}
	if len(batch.Messages) == 0 {
		return []string{batch.ErrorMessage()}, true
	}
	return batch.Messages, true
}
