"""What media need of an S3 store, asked by a client that others wrote (boto3).

usage: conformance.py ENDPOINT BUCKET ACCESS_KEY SECRET_KEY

Prints a line for each promise, and ends with 1 when one was not kept. It runs against any store.
"""

import base64
import concurrent.futures
import datetime
import hashlib
import http.client
import sys
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request
import zlib

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.exceptions

ENDPOINT, BUCKET, ACCESS_KEY, SECRET_KEY = sys.argv[1:5]
PART = 5 * 1024 * 1024
PROMISES = []


def promise(function):
    PROMISES.append(function)
    return function


def client(access_key=ACCESS_KEY, secret_key=SECRET_KEY, **options):
    style = {"addressing_style": "path"} | options.pop("s3", {})
    options = {"signature_version": "s3v4", "retries": {"max_attempts": 0}} | options
    return boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        config=botocore.config.Config(s3=style, **options),
    )


s3 = client()


def refused(code, call, *arguments, **options):
    """The call must fail with this code (or one of these)."""
    codes = code if isinstance(code, tuple) else (code,)
    try:
        call(*arguments, **options)
    except botocore.exceptions.ClientError as error:
        found = error.response["Error"]["Code"]
        assert found in codes, f"refused with {found}, not {codes}"
        return error.response
    raise AssertionError(f"not refused with {codes}")


def put(key, body=b"hello", **options):
    return s3.put_object(Bucket=BUCKET, Key=key, Body=body, **options)


def get(key, **options):
    return s3.get_object(Bucket=BUCKET, Key=key, **options)


def read(key, **options):
    return get(key, **options)["Body"].read()


def head(key, **options):
    return s3.head_object(Bucket=BUCKET, Key=key, **options)


def keys(**options):
    return [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET, **options).get("Contents", [])]


def begin(key, **options):
    return s3.create_multipart_upload(Bucket=BUCKET, Key=key, **options)["UploadId"]


def part(key, upload, number, body, **options):
    options |= {"Bucket": BUCKET, "Key": key, "UploadId": upload}
    answer = s3.upload_part(PartNumber=number, Body=body, **options)
    chosen = {"PartNumber": number, "ETag": answer["ETag"]}
    return chosen | {name: value for name, value in answer.items() if name.startswith("ChecksumC")}


def complete(key, upload, parts, **options):
    options |= {"Bucket": BUCKET, "Key": key, "UploadId": upload}
    return s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **options)


def raw(method, path, body=b"", headers=(), query="", payload=None, when=None, sign=True, length=True):
    """Sends a request whose path goes out exactly as it is written here."""
    host = urllib.parse.urlsplit(ENDPOINT).netloc
    when = when or datetime.datetime.now(datetime.timezone.utc)
    headers = {"host": host} | dict(headers)
    if sign:
        moment = when.strftime("%Y%m%dT%H%M%SZ")
        payload = payload or hashlib.sha256(body).hexdigest()
        headers |= {"x-amz-date": moment, "x-amz-content-sha256": payload}
        headers["authorization"], _ = signature(method, path, query, headers, payload, moment)
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.putrequest(method, path + ("?" + query if query else ""), skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if length and (body or method in ("PUT", "POST")):
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, dict((name.lower(), value) for name, value in answer.getheaders()), answer.read()


def hmac(key, text):
    import hmac as code

    return code.new(key, text.encode(), hashlib.sha256).digest()


def signing_key(moment):
    key = hmac(("AWS4" + SECRET_KEY).encode(), moment[:8])
    for step in ("us-east-1", "s3", "aws4_request"):
        key = hmac(key, step)
    return key


def signature(method, path, query, headers, payload, moment):
    names = sorted(headers)
    pairs = sorted(query.split("&")) if query else []
    pairs = "&".join(pair if "=" in pair else pair + "=" for pair in pairs)
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    canonical = "\n".join([method, path, pairs, lines, ";".join(names), payload])
    scope = f"{moment[:8]}/us-east-1/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    seed = hmac(signing_key(moment), text).hex()
    return f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={';'.join(names)}, Signature={seed}", seed


def signed_chunks(path, body, trailer=None, spoil=False, chunk=70_000):
    """Sends a body in signed pieces, as the SDKs for Java, .NET and Go do."""
    moment = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else "")
    host = urllib.parse.urlsplit(ENDPOINT).netloc
    headers = {
        "host": host,
        "content-encoding": "aws-chunked",
        "x-amz-content-sha256": kind,
        "x-amz-date": moment,
        "x-amz-decoded-content-length": str(len(body)),
    }
    if trailer:
        headers["x-amz-trailer"] = trailer[0]
    headers["authorization"], previous = signature("PUT", path, "", headers, kind, moment)
    scope = f"{moment[:8]}/us-east-1/s3/aws4_request"
    empty = hashlib.sha256(b"").hexdigest()
    out = b""
    for start in [*range(0, len(body), chunk), len(body)]:
        piece = body[start : start + chunk]
        text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", moment, scope, previous, empty, hashlib.sha256(piece).hexdigest()])
        previous = hmac(signing_key(moment), text).hex()
        out += f"{len(piece):x};chunk-signature={previous}\r\n".encode() + piece + (b"\r\n" if piece else b"")
    if trailer:
        line = f"{trailer[0]}:{trailer[1]}\n"
        text = "\n".join(["AWS4-HMAC-SHA256-TRAILER", moment, scope, previous, hashlib.sha256(line.encode()).hexdigest()])
        out += line.encode() + b"\r\nx-amz-trailer-signature:" + hmac(signing_key(moment), text).hex().encode() + b"\r\n"
    out += b"\r\n"
    if spoil:
        out = out.replace(body[:50], b"!" * 50, 1)
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("PUT", path, out, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


# Objects


@promise
def an_object_comes_back_as_it_was_put():
    for size in (0, 1, 200_000, 3_000_001):
        body = bytes(range(251)) * (size // 251 + 1)
        answer = put("whole", body[:size])
        assert answer["ETag"] == f'"{hashlib.md5(body[:size]).hexdigest()}"'
        assert read("whole") == body[:size]


@promise
def headers_and_metadata_come_back():
    put(
        "described",
        ContentType="image/png",
        CacheControl="max-age=60",
        ContentDisposition='attachment; filename="x"',
        ContentEncoding="gzip",
        ContentLanguage="de",
        Metadata={"mtime": "123", "mode": "0644"},
    )
    for answer in (head("described"), get("described")):
        assert answer["ContentType"] == "image/png"
        assert answer["CacheControl"] == "max-age=60"
        assert answer["ContentDisposition"] == 'attachment; filename="x"'
        assert answer["ContentEncoding"] == "gzip", answer["ContentEncoding"]
        assert answer["ContentLanguage"] == "de"
        assert answer["Metadata"] == {"mtime": "123", "mode": "0644"}


@promise
def an_object_without_a_type_is_a_stream_of_bytes():
    status, _, _ = raw("PUT", f"/{BUCKET}/typeless", b"x")
    assert status == 200
    assert head("typeless")["ContentType"] == "binary/octet-stream", head("typeless")["ContentType"]


@promise
def head_says_the_size_and_the_time():
    put("sized", b"12345")
    answer = head("sized")
    assert answer["ContentLength"] == 5
    age = datetime.datetime.now(datetime.timezone.utc) - answer["LastModified"]
    assert abs(age.total_seconds()) < 60


@promise
def a_later_put_replaces_all_of_it():
    put("replaced", b"long content", Metadata={"a": "1"})
    put("replaced", b"short")
    answer = get("replaced")
    assert answer["Body"].read() == b"short"
    assert answer["Metadata"] == {}


@promise
def what_is_not_there_is_not_there():
    refused("NoSuchKey", get, "nothing-here")
    refused("404", head, "nothing-here")


@promise
def a_deleted_object_is_gone_and_deleting_again_is_no_fault():
    put("deleted")
    s3.delete_object(Bucket=BUCKET, Key="deleted")
    refused("NoSuchKey", get, "deleted")
    s3.delete_object(Bucket=BUCKET, Key="deleted")


@promise
def many_are_deleted_at_once():
    names = [f"many/{number}" for number in range(20)] + ["many/ü & <x>"]
    for name in names:
        put(name)
    objects = [{"Key": name} for name in [*names, "many/never"]]
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": objects})
    assert {one["Key"] for one in answer["Deleted"]} == {one["Key"] for one in objects}
    assert keys(Prefix="many/") == []


@promise
def many_are_deleted_quietly():
    put("quiet/1")
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "quiet/1"}], "Quiet": True})
    assert "Deleted" not in answer and "Errors" not in answer
    assert keys(Prefix="quiet/") == []


@promise
def more_than_a_thousand_are_not_deleted_at_once():
    objects = [{"Key": str(number)} for number in range(1001)]
    refused("MalformedXML", s3.delete_objects, Bucket=BUCKET, Delete={"Objects": objects})


@promise
def answers_can_be_told_other_headers():
    put("renamed", ContentType="image/png")
    answer = get("renamed", ResponseContentType="text/plain", ResponseContentDisposition="inline")
    assert (answer["ContentType"], answer["ContentDisposition"]) == ("text/plain", "inline")


# Keys


NAMES = [
    "with space", "ümläut/日本語.png", "a+b&c=d?e#f%20", "quote'\"<>&.jpg", "tab\there", "back\\slash",
    "UPPER/lower", "upper/LOWER", "dot./.hidden", "trailing/", "~tilde!$()*,;:@", "x" * 300 + "/" + "y" * 300, "k" * 1024,
]  # fmt: skip


@promise
def any_name_is_a_name():
    for name in NAMES:
        put("names/" + name if len(name) < 1000 else name, name.encode())
    for name in NAMES:
        key = "names/" + name if len(name) < 1000 else name
        assert read(key) == name.encode(), name
    listed = keys(Prefix="names/")
    assert listed == sorted(("names/" + name for name in NAMES if len(name) < 1000), key=str.encode), listed


@promise
def names_with_dots_and_empty_steps_are_different_names():
    paths = ["odd/../up", "odd/./here", "odd//double", "odd/a/../../../../../tmp/flotilla-escaped", "/odd-leading"]
    for name in paths:
        status, _, body = raw("PUT", f"/{BUCKET}/{name}", name.encode())
        assert status == 200, (name, status, body)
    for name in paths:
        status, _, body = raw("GET", f"/{BUCKET}/{name}")
        assert (status, body) == (200, name.encode()), (name, status, body)
    assert set(paths[:4]) <= set(keys(Prefix="odd/"))
    assert keys(Prefix="/odd") == ["/odd-leading"]


@promise
def a_name_may_be_the_beginning_of_another():
    put("deep", b"file")
    put("deep/er", b"below")
    put("deep/er/est", b"deepest")
    assert [read(key) for key in ("deep", "deep/er", "deep/er/est")] == [b"file", b"below", b"deepest"]
    s3.delete_object(Bucket=BUCKET, Key="deep")
    assert read("deep/er") == b"below"
    assert keys(Prefix="deep") == ["deep/er", "deep/er/est"]


@promise
def names_differ_by_case():
    put("Case", b"1")
    put("case", b"2")
    assert (read("Case"), read("case")) == (b"1", b"2")


@promise
def a_name_of_more_than_1024_bytes_is_refused():
    refused("KeyTooLongError", put, "k" * 1025)


@promise
def a_name_that_is_not_utf8_is_refused():
    status, _, _ = raw("PUT", f"/{BUCKET}/%FF%FE", b"x")
    assert status == 400, status


# Ranges and conditions


@promise
def ranges_are_served():
    put("ranged", b"0123456789")
    for asked, body, content in [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=8-100", b"89", "bytes 8-9/10"),
    ]:
        answer = get("ranged", Range=asked)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert (answer["Body"].read(), answer["ContentRange"]) == (body, content), asked


@promise
def a_range_behind_the_end_is_refused():
    put("ranged", b"0123456789")
    refused("InvalidRange", get, "ranged", Range="bytes=10-")


@promise
def a_range_that_is_none_is_answered_with_the_whole():
    put("ranged", b"0123456789")
    status, _, body = raw("GET", f"/{BUCKET}/ranged", headers={"range": "bytes=5-2"})
    assert (status, body) == (200, b"0123456789")


@promise
def head_of_a_range_says_its_size():
    put("ranged", b"0123456789")
    answer = head("ranged", Range="bytes=0-3")
    assert answer["ContentLength"] == 4
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206


@promise
def a_range_of_another_version_is_not_served():
    etag = put("ranged", b"0123456789")["ETag"]
    for value, status in ((etag, 206), ('"other"', 200)):
        found, _, _ = raw("GET", f"/{BUCKET}/ranged", headers={"range": "bytes=0-3", "if-range": value})
        assert found == status, (value, found)


@promise
def readers_with_conditions_get_what_they_lack():
    etag = put("conditional")["ETag"]
    modified = head("conditional")["LastModified"]
    hour = datetime.timedelta(hours=1)
    get("conditional", IfMatch=etag)
    refused("PreconditionFailed", get, "conditional", IfMatch='"other"')
    refused("304", get, "conditional", IfNoneMatch=etag)
    get("conditional", IfNoneMatch='"other"')
    refused("304", get, "conditional", IfModifiedSince=modified)
    get("conditional", IfModifiedSince=modified - hour)
    get("conditional", IfUnmodifiedSince=modified)
    refused("PreconditionFailed", get, "conditional", IfUnmodifiedSince=modified - hour)
    refused("304", head, "conditional", IfNoneMatch=etag)
    refused("412", head, "conditional", IfMatch='"other"')


@promise
def not_modified_says_which_version_that_is():
    etag = put("conditional")["ETag"]
    status, headers, body = raw("GET", f"/{BUCKET}/conditional", headers={"if-none-match": etag})
    assert (status, headers.get("etag"), body) == (304, etag, b"")


@promise
def who_creates_only_if_absent_does_not_overwrite():
    s3.delete_object(Bucket=BUCKET, Key="once")
    put("once", b"first", IfNoneMatch="*")
    refused("PreconditionFailed", put, "once", b"second", IfNoneMatch="*")
    assert read("once") == b"first"
    s3.delete_object(Bucket=BUCKET, Key="once")
    put("once", b"third", IfNoneMatch="*")


@promise
def who_replaces_a_version_does_not_overwrite_another():
    first = put("versioned", b"first")["ETag"]
    second = put("versioned", b"second", IfMatch=first)["ETag"]
    refused("PreconditionFailed", put, "versioned", b"third", IfMatch=first)
    assert read("versioned") == b"second"
    put("versioned", b"third", IfMatch=second)
    refused(("NoSuchKey", "PreconditionFailed"), put, "never-there", IfMatch=first)


@promise
def who_deletes_a_version_does_not_delete_another():
    etag = put("deleted-if")["ETag"]
    refused("PreconditionFailed", s3.delete_object, Bucket=BUCKET, Key="deleted-if", IfMatch='"other"')
    assert read("deleted-if") == b"hello"
    s3.delete_object(Bucket=BUCKET, Key="deleted-if", IfMatch=etag)
    refused("NoSuchKey", get, "deleted-if")


def race(attempt, count=48):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        outcomes = list(pool.map(attempt, range(count)))
    return [number for number, outcome in enumerate(outcomes) if outcome]


def wins(call):
    try:
        call()
        return True
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"), error
        return False


@promise
def of_48_who_create_at_once_one_wins():
    for round in range(3):
        key = f"race-put-{round}"
        s3.delete_object(Bucket=BUCKET, Key=key)
        winners = race(lambda number: wins(lambda: put(key, str(number).encode(), IfNoneMatch="*")))
        assert len(winners) == 1, winners
        assert read(key) == str(winners[0]).encode()


@promise
def of_16_who_complete_an_upload_at_once_one_wins():
    key = "race-upload"
    s3.delete_object(Bucket=BUCKET, Key=key)
    uploads = []
    for number in range(16):
        upload = begin(key)
        uploads.append((upload, [part(key, upload, 1, str(number).encode())]))
    winners = race(lambda number: wins(lambda: complete(key, *uploads[number], IfNoneMatch="*")), 16)
    assert len(winners) == 1, winners
    assert read(key) == str(winners[0]).encode()


@promise
def of_16_who_copy_at_once_one_wins():
    key = "race-copy"
    s3.delete_object(Bucket=BUCKET, Key=key)
    for number in range(16):
        put(f"race-source-{number}", str(number).encode())

    def copy(number):
        source = {"Bucket": BUCKET, "Key": f"race-source-{number}"}
        return wins(lambda: s3.copy_object(Bucket=BUCKET, Key=key, CopySource=source, IfNoneMatch="*"))

    winners = race(copy, 16)
    assert len(winners) == 1, winners
    assert read(key) == str(winners[0]).encode()


@promise
def a_reader_sees_one_version_while_it_is_replaced():
    bodies = [bytes([letter]) * 1_500_000 for letter in b"abcd"]
    put("replaced-under-reader", bodies[0])

    def work(number):
        if number % 4 == 0:
            put("replaced-under-reader", bodies[number // 4 % 4])
            return True
        body = read("replaced-under-reader")
        return body in bodies

    assert len(race(work, 32)) == 32


# Copies


@promise
def a_copy_is_the_same_with_its_metadata():
    put("copy-source", b"copied", ContentType="image/png", Metadata={"a": "1"})
    answer = s3.copy_object(Bucket=BUCKET, Key="copy ü", CopySource={"Bucket": BUCKET, "Key": "copy-source"})
    assert answer["CopyObjectResult"]["ETag"] == head("copy-source")["ETag"]
    copied = get("copy ü")
    assert (copied["Body"].read(), copied["ContentType"], copied["Metadata"]) == (b"copied", "image/png", {"a": "1"})


@promise
def a_copy_with_a_difficult_name_is_found():
    put("copy/a+b ü%2F?x", b"odd")
    s3.copy_object(Bucket=BUCKET, Key="copied-odd", CopySource={"Bucket": BUCKET, "Key": "copy/a+b ü%2F?x"})
    assert read("copied-odd") == b"odd"


@promise
def a_copy_outlives_its_source():
    put("copy-source-2", b"copied")
    s3.copy_object(Bucket=BUCKET, Key="copy-2", CopySource={"Bucket": BUCKET, "Key": "copy-source-2"})
    put("copy-source-2", b"other")
    s3.delete_object(Bucket=BUCKET, Key="copy-source-2")
    assert read("copy-2") == b"copied"


@promise
def a_copy_can_have_other_metadata():
    put("copy-source-3", b"copied", Metadata={"a": "1"})
    source = {"Bucket": BUCKET, "Key": "copy-source-3"}
    options = {"MetadataDirective": "REPLACE", "Metadata": {"b": "2"}, "ContentType": "text/css"}
    s3.copy_object(Bucket=BUCKET, Key="copy-3", CopySource=source, **options)
    answer = head("copy-3")
    assert (answer["Metadata"], answer["ContentType"]) == ({"b": "2"}, "text/css")
    s3.copy_object(Bucket=BUCKET, Key="copy-source-3", CopySource=source, **options)
    answer = get("copy-source-3")
    assert (answer["Metadata"], answer["Body"].read()) == ({"b": "2"}, b"copied")


@promise
def a_copy_to_itself_that_changes_nothing_is_refused():
    put("copy-self")
    refused("InvalidRequest", s3.copy_object, Bucket=BUCKET, Key="copy-self", CopySource={"Bucket": BUCKET, "Key": "copy-self"})


@promise
def a_copy_of_nothing_is_refused():
    refused("NoSuchKey", s3.copy_object, Bucket=BUCKET, Key="copy-x", CopySource={"Bucket": BUCKET, "Key": "never"})


@promise
def a_copy_can_have_conditions_about_its_source():
    etag = put("copy-source-4")["ETag"]
    source = {"Bucket": BUCKET, "Key": "copy-source-4"}
    s3.copy_object(Bucket=BUCKET, Key="copy-4", CopySource=source, CopySourceIfMatch=etag)
    for options in ({"CopySourceIfMatch": '"other"'}, {"CopySourceIfNoneMatch": etag}):
        refused("PreconditionFailed", s3.copy_object, Bucket=BUCKET, Key="copy-4", CopySource=source, **options)


@promise
def a_copy_does_not_overwrite_when_told_so():
    put("copy-source-5", b"new")
    put("copy-5", b"old")
    source = {"Bucket": BUCKET, "Key": "copy-source-5"}
    refused("PreconditionFailed", s3.copy_object, Bucket=BUCKET, Key="copy-5", CopySource=source, IfNoneMatch="*")
    assert read("copy-5") == b"old"


# Listings


def fill(prefix, names):
    for name in names:
        put(prefix + name, b"x")


@promise
def a_listing_is_in_byte_order():
    names = ["b", "a/2", "a", "a/1", "B", "a-", "ü", "a0"]
    fill("order/", names)
    assert keys(Prefix="order/") == sorted(("order/" + name for name in names), key=str.encode)


@promise
def a_listing_folds_what_is_below_a_delimiter():
    fill("fold/", ["a/1", "a/2", "b", "c/d/e", "c.x"])
    answer = s3.list_objects_v2(Bucket=BUCKET, Prefix="fold/", Delimiter="/")
    assert [one["Key"] for one in answer["Contents"]] == ["fold/b", "fold/c.x"]
    assert [one["Prefix"] for one in answer["CommonPrefixes"]] == ["fold/a/", "fold/c/"]
    assert answer["KeyCount"] == 4 and answer["IsTruncated"] is False
    answer = s3.list_objects_v2(Bucket=BUCKET, Prefix="fold/c", Delimiter="/")
    assert [one["Prefix"] for one in answer["CommonPrefixes"]] == ["fold/c/"]


@promise
def a_delimiter_may_be_any_text():
    fill("delim/", ["a--b", "a-b", "c--d--e"])
    answer = s3.list_objects_v2(Bucket=BUCKET, Prefix="delim/", Delimiter="--")
    assert [one["Key"] for one in answer["Contents"]] == ["delim/a-b"]
    assert [one["Prefix"] for one in answer["CommonPrefixes"]] == ["delim/a--", "delim/c--"]


@promise
def a_listing_comes_in_pages():
    names = [f"{number:03}" for number in range(25)]
    fill("pages/", names)
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="pages/", PaginationConfig={"PageSize": 7}))
    assert [page["KeyCount"] for page in pages] == [7, 7, 7, 4]
    assert [one["Key"] for page in pages for one in page["Contents"]] == ["pages/" + name for name in names]


@promise
def a_folded_listing_comes_in_pages():
    fill("folds/", [f"{number}/{leaf}" for number in range(7) for leaf in "abc"] + ["0x", "9"])
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET, Prefix="folds/", Delimiter="/", PaginationConfig={"PageSize": 2}
    )
    found = []
    for page in pages:
        found += [one["Prefix"] for one in page.get("CommonPrefixes", [])] + [one["Key"] for one in page.get("Contents", [])]
    assert sorted(found) == sorted([f"folds/{number}/" for number in range(7)] + ["folds/0x", "folds/9"]), found
    assert len(found) == 9


@promise
def a_listing_begins_behind_a_name():
    fill("after/", ["a", "b", "c"])
    assert keys(Prefix="after/", StartAfter="after/a") == ["after/b", "after/c"]
    assert keys(Prefix="after/", StartAfter="after/aa") == ["after/b", "after/c"]
    assert keys(Prefix="after/", StartAfter="zzz") == []


@promise
def a_listing_says_size_time_and_etag():
    etag = put("facts/one", b"12345")["ETag"]
    (entry,) = s3.list_objects_v2(Bucket=BUCKET, Prefix="facts/")["Contents"]
    assert (entry["Size"], entry["ETag"], entry["StorageClass"]) == (5, etag, "STANDARD")
    assert abs((datetime.datetime.now(datetime.timezone.utc) - entry["LastModified"]).total_seconds()) < 60


@promise
def a_listing_of_nothing_is_empty():
    answer = s3.list_objects_v2(Bucket=BUCKET, Prefix="there-is-nothing/")
    assert answer["KeyCount"] == 0 and "Contents" not in answer


@promise
def a_listing_without_room_is_empty():
    answer = s3.list_objects_v2(Bucket=BUCKET, MaxKeys=0)
    assert "Contents" not in answer and answer["IsTruncated"] is False


@promise
def the_older_listing_works():
    fill("older/", ["a/1", "b", "c", "d"])
    first = s3.list_objects(Bucket=BUCKET, Prefix="older/", Delimiter="/", MaxKeys=2)
    assert [one["Prefix"] for one in first["CommonPrefixes"]] == ["older/a/"]
    assert [one["Key"] for one in first["Contents"]] == ["older/b"]
    assert first["IsTruncated"] and first["NextMarker"] == "older/b"
    second = s3.list_objects(Bucket=BUCKET, Prefix="older/", Delimiter="/", Marker=first["NextMarker"])
    assert [one["Key"] for one in second["Contents"]] == ["older/c", "older/d"]


@promise
def a_strange_continuation_token_is_refused():
    refused("InvalidArgument", s3.list_objects_v2, Bucket=BUCKET, ContinuationToken="not a token!")


# Uploads in parts


@promise
def an_upload_in_parts_becomes_one_object():
    upload = begin("parts", ContentType="video/mp4", Metadata={"a": "1"})
    bodies = [b"a" * PART, b"b" * PART, b"end"]
    parts = [part("parts", upload, number, body) for number, body in ((1, bodies[0]), (5, bodies[1]), (9, bodies[2]))]
    refused("NoSuchKey", get, "parts")
    answer = complete("parts", upload, parts)
    digests = b"".join(hashlib.md5(body).digest() for body in bodies)
    assert answer["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-3"', answer["ETag"]
    found = get("parts")
    assert found["Body"].read() == b"".join(bodies)
    assert (found["ContentType"], found["Metadata"]) == ("video/mp4", {"a": "1"})
    assert read("parts", Range=f"bytes={PART - 2}-{PART + 1}") == b"aabb"
    assert read("parts", Range="bytes=-4") == b"bend"
    s3.delete_object(Bucket=BUCKET, Key="parts")


@promise
def the_transfer_manager_of_the_sdk_works():
    import io

    body = bytes(range(256)) * 80_000
    s3.upload_fileobj(io.BytesIO(body), BUCKET, "transferred", ExtraArgs={"ContentType": "image/jpeg"})
    out = io.BytesIO()
    s3.download_fileobj(BUCKET, "transferred", out)
    assert out.getvalue() == body
    assert head("transferred")["ContentType"] == "image/jpeg"


@promise
def a_part_can_be_sent_again():
    upload = begin("again")
    part("again", upload, 1, b"wrong")
    parts = [part("again", upload, 1, b"right")]
    complete("again", upload, parts)
    assert read("again") == b"right"


@promise
def completing_again_gives_the_same_answer():
    upload = begin("twice")
    parts = [part("twice", upload, 1, b"once")]
    first = complete("twice", upload, parts)
    second = complete("twice", upload, parts)
    assert first["ETag"] == second["ETag"]


@promise
def parts_can_be_listed():
    upload = begin("listed")
    for number in (1, 2, 3):
        part("listed", upload, number, b"x" * number)
    answer = s3.list_parts(Bucket=BUCKET, Key="listed", UploadId=upload, MaxParts=2)
    assert [(one["PartNumber"], one["Size"]) for one in answer["Parts"]] == [(1, 1), (2, 2)]
    assert answer["IsTruncated"] and answer["NextPartNumberMarker"] == 2
    answer = s3.list_parts(Bucket=BUCKET, Key="listed", UploadId=upload, PartNumberMarker=2)
    assert [one["PartNumber"] for one in answer["Parts"]] == [3]
    s3.abort_multipart_upload(Bucket=BUCKET, Key="listed", UploadId=upload)


@promise
def unfinished_uploads_can_be_listed():
    uploads = {begin("unfinished/ü"), begin("unfinished/b"), begin("unfinished/b")}
    answer = s3.list_multipart_uploads(Bucket=BUCKET, Prefix="unfinished/")
    assert {one["UploadId"] for one in answer["Uploads"]} == uploads
    assert [one["Key"] for one in answer["Uploads"]] == ["unfinished/b", "unfinished/b", "unfinished/ü"]
    for one in answer["Uploads"]:
        s3.abort_multipart_upload(Bucket=BUCKET, Key=one["Key"], UploadId=one["UploadId"])
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET, Prefix="unfinished/")


@promise
def an_upload_that_was_given_up_is_gone():
    upload = begin("aborted")
    chosen = part("aborted", upload, 1, b"x")
    s3.abort_multipart_upload(Bucket=BUCKET, Key="aborted", UploadId=upload)
    refused("NoSuchUpload", part, "aborted", upload, 2, b"x")
    refused("NoSuchUpload", complete, "aborted", upload, [chosen])
    refused("NoSuchUpload", s3.list_parts, Bucket=BUCKET, Key="aborted", UploadId=upload)
    refused("NoSuchKey", get, "aborted")


@promise
def parts_that_do_not_fit_are_refused():
    upload = begin("unfit")
    first, second = part("unfit", upload, 1, b"small"), part("unfit", upload, 2, b"small")
    refused("EntityTooSmall", complete, "unfit", upload, [first, second])
    refused("InvalidPartOrder", complete, "unfit", upload, [second, first])
    refused("InvalidPart", complete, "unfit", upload, [{"PartNumber": 3, "ETag": first["ETag"]}])
    refused("InvalidPart", complete, "unfit", upload, [first | {"ETag": '"' + "0" * 32 + '"'}])
    refused("NoSuchKey", get, "unfit")
    complete("unfit", upload, [second])
    assert read("unfit") == b"small"


@promise
def numbers_of_parts_have_limits():
    upload = begin("numbered")
    for number in (0, 10_001):
        refused("InvalidArgument", part, "numbered", upload, number, b"x")
    s3.abort_multipart_upload(Bucket=BUCKET, Key="numbered", UploadId=upload)


@promise
def an_upload_in_parts_does_not_overwrite_when_told_so():
    put("parts-once", b"old")
    upload = begin("parts-once")
    parts = [part("parts-once", upload, 1, b"new")]
    refused("PreconditionFailed", complete, "parts-once", upload, parts, IfNoneMatch="*")
    assert read("parts-once") == b"old"
    complete("parts-once", upload, parts, IfMatch=head("parts-once")["ETag"])
    assert read("parts-once") == b"new"


@promise
def a_part_can_be_copied():
    put("part-source", b"0123456789")
    upload = begin("part-copied")
    source = {"Bucket": BUCKET, "Key": "part-source"}
    options = {"Bucket": BUCKET, "Key": "part-copied", "UploadId": upload, "CopySource": source}
    answer = s3.upload_part_copy(PartNumber=1, CopySourceRange="bytes=2-5", **options)
    chosen = {"PartNumber": 1} | {
        name: value for name, value in answer["CopyPartResult"].items() if name == "ETag" or name.startswith("ChecksumC")
    }
    complete("part-copied", upload, [chosen])
    assert read("part-copied") == b"2345"


# Checksums


@promise
def a_wrong_md5_is_refused():
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    refused("BadDigest", put, "md5", ContentMD5=wrong)
    refused("InvalidDigest", put, "md5", ContentMD5="nonsense")
    put("md5", ContentMD5=base64.b64encode(hashlib.md5(b"hello").digest()).decode())


@promise
def checksums_are_kept_and_told_on_demand():
    value = base64.b64encode(zlib.crc32(b"hello").to_bytes(4, "big")).decode()
    assert put("crc", ChecksumCRC32=value)["ChecksumCRC32"] == value
    assert head("crc", ChecksumMode="ENABLED")["ChecksumCRC32"] == value
    assert read("crc", ChecksumMode="ENABLED") == b"hello"
    value = base64.b64encode(hashlib.sha256(b"hello").digest()).decode()
    assert put("sha", ChecksumSHA256=value)["ChecksumSHA256"] == value


@promise
def a_wrong_checksum_is_refused():
    put("wrong", b"before")
    wrong = base64.b64encode(zlib.crc32(b"other").to_bytes(4, "big")).decode()
    refused(("BadDigest", "InvalidRequest"), put, "wrong", ChecksumCRC32=wrong)
    assert read("wrong") == b"before"


@promise
def a_wrong_hash_in_the_signature_is_refused():
    wrong = hashlib.sha256(b"other").hexdigest()
    status, _, body = raw("PUT", f"/{BUCKET}/hash", b"hello", payload=wrong)
    assert status == 400 and b"XAmzContentSHA256Mismatch" in body, (status, body)


@promise
def parts_have_checksums_of_their_own():
    upload = begin("crc-parts", ChecksumAlgorithm="SHA256")
    parts = []
    for number, body in ((1, b"a" * PART), (2, b"b")):
        value = base64.b64encode(hashlib.sha256(body).digest()).decode()
        answer = s3.upload_part(
            Bucket=BUCKET, Key="crc-parts", UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm="SHA256"
        )
        assert answer["ChecksumSHA256"] == value
        parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": value})
    answer = complete("crc-parts", upload, parts)
    digests = b"".join(base64.b64decode(one["ChecksumSHA256"]) for one in parts)
    assert answer["ChecksumSHA256"].split("-")[0] == base64.b64encode(hashlib.sha256(digests).digest()).decode()


# Bodies in pieces


@promise
def a_body_in_signed_pieces_arrives():
    for size in (0, 10, 65_536, 300_000):
        body = (b"0123456789abcdef" * 20_000)[:size]
        status, answer = signed_chunks(f"/{BUCKET}/pieces", body)
        assert status == 200, (size, status, answer)
        assert read("pieces") == body


@promise
def a_body_in_signed_pieces_with_a_checksum_arrives():
    body = b"0123456789abcdef" * 10_000
    value = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    status, answer = signed_chunks(f"/{BUCKET}/pieces-crc", body, ("x-amz-checksum-crc32", value))
    assert status == 200, (status, answer)
    assert read("pieces-crc") == body
    assert "ContentEncoding" not in head("pieces-crc")


@promise
def a_spoiled_piece_is_refused():
    put("pieces-spoiled", b"before")
    status, answer = signed_chunks(f"/{BUCKET}/pieces-spoiled", b"0123456789abcdef" * 10_000, spoil=True)
    assert status == 403 and b"SignatureDoesNotMatch" in answer, (status, answer)
    assert read("pieces-spoiled") == b"before"


@promise
def a_body_with_an_unsigned_trailer_arrives():
    for name, value in (("x-amz-checksum-crc32", zlib.crc32(b"hello").to_bytes(4, "big")), ("x-amz-checksum-sha1", hashlib.sha1(b"hello").digest())):
        line = f"{name}:{base64.b64encode(value).decode()}"
        body = f"5\r\nhello\r\n0\r\n{line}\r\n\r\n".encode()
        headers = {"x-amz-trailer": name, "content-encoding": "aws-chunked", "x-amz-decoded-content-length": "5"}
        status, _, answer = raw("PUT", f"/{BUCKET}/trailer", body, headers, payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        assert status == 200, (status, answer)
        assert read("trailer") == b"hello"


@promise
def a_wrong_trailer_is_refused():
    value = base64.b64encode(zlib.crc32(b"other").to_bytes(4, "big")).decode()
    body = f"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:{value}\r\n\r\n".encode()
    headers = {"x-amz-trailer": "x-amz-checksum-crc32", "content-encoding": "aws-chunked", "x-amz-decoded-content-length": "5"}
    status, _, answer = raw("PUT", f"/{BUCKET}/trailer-wrong", body, headers, payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    assert status == 400, (status, answer)
    refused("NoSuchKey", get, "trailer-wrong")


@promise
def an_unsigned_body_arrives():
    status, _, _ = raw("PUT", f"/{BUCKET}/unsigned-body", b"hello", payload="UNSIGNED-PAYLOAD")
    assert status == 200
    assert read("unsigned-body") == b"hello"


@promise
def a_body_without_a_length_is_refused():
    status, _, body = raw("PUT", f"/{BUCKET}/lengthless", length=False, headers={"transfer-encoding": "chunked"}, body=b"5\r\nhello\r\n0\r\n\r\n", payload="UNSIGNED-PAYLOAD")
    assert status == 411 and b"MissingContentLength" in body, (status, body)


# Who asks


@promise
def whoever_does_not_sign_gets_nothing():
    put("private")
    for method, path in (("GET", "/private"), ("HEAD", "/private"), ("PUT", "/private"), ("DELETE", "/private"), ("GET", "/"), ("GET", "/never")):
        status, _, body = raw(method, f"/{BUCKET}{path}", sign=False)
        assert status == 403, (method, path, status)
        assert method == "HEAD" or b"<Code>AccessDenied</Code>" in body, body
    assert read("private") == b"hello"


@promise
def wrong_keys_are_told_apart():
    refused("InvalidAccessKeyId", client("other").list_objects_v2, Bucket=BUCKET)
    refused("SignatureDoesNotMatch", client(secret_key="other").list_objects_v2, Bucket=BUCKET)


@promise
def a_clock_that_is_off_is_named():
    now = datetime.datetime.now(datetime.timezone.utc)
    for minutes in (-16, 16):
        status, _, body = raw("GET", f"/{BUCKET}/private", when=now + datetime.timedelta(minutes=minutes))
        assert status == 403 and b"RequestTimeTooSkewed" in body, (minutes, status, body)
    for minutes in (-14, 14):
        status, _, body = raw("GET", f"/{BUCKET}/", when=now + datetime.timedelta(minutes=minutes))
        assert status == 200, (minutes, status, body)


@promise
def a_signature_covers_the_amazon_headers():
    moment = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    host = urllib.parse.urlsplit(ENDPOINT).netloc
    payload = hashlib.sha256(b"x").hexdigest()
    headers = {"host": host, "x-amz-date": moment, "x-amz-content-sha256": payload}
    headers["authorization"], _ = signature("PUT", f"/{BUCKET}/smuggled", "", headers, payload, moment)
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("PUT", f"/{BUCKET}/smuggled", b"x", headers | {"x-amz-meta-smuggled": "1"})
    assert connection.getresponse().status == 403


def fetch(url, method="GET", body=None, headers=()):
    request = urllib.request.Request(url, data=body, method=method, headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@promise
def signed_addresses_work_for_reading_and_writing():
    put("presigned ü+x", b"hello")
    url = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "presigned ü+x"}, 60)
    assert fetch(url) == (200, b"hello")
    url = s3.generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": "presigned-put"}, 60)
    assert fetch(url, "PUT", b"put") [0] == 200
    assert read("presigned-put") == b"put"


@promise
def a_signed_address_holds_for_one_method_and_one_name():
    url = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "presigned-get"}, 60)
    put("presigned-get")
    assert fetch(url)[0] == 200
    assert fetch(url, "PUT", b"x")[0] == 403
    assert fetch(url.replace("presigned-get", "private"))[0] == 403
    assert fetch(url + "0")[0] == 403


@promise
def a_signed_address_expires():
    url = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "presigned-get"}, 1)
    deadline = time.monotonic() + 20
    while fetch(url)[0] != 403:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@promise
def the_older_signature_is_refused_by_name():
    url = client(signature_version="s3").generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "private"}, 60)
    status, body = fetch(url)
    assert status == 400 and b"AWS4-HMAC-SHA256" in body, (status, body)


# Buckets and what is left out


@promise
def the_bucket_is_there():
    s3.head_bucket(Bucket=BUCKET)
    assert BUCKET in [one["Name"] for one in s3.list_buckets()["Buckets"]]
    assert "LocationConstraint" in s3.get_bucket_location(Bucket=BUCKET)


@promise
def another_bucket_is_not_there():
    refused("404", s3.head_bucket, Bucket="another-bucket")
    refused("NoSuchBucket", s3.list_objects_v2, Bucket="another-bucket")
    refused("NoSuchBucket", s3.put_object, Bucket="another-bucket", Key="x", Body=b"x")


@promise
def making_the_bucket_again_says_that_it_is_there():
    refused(("BucketAlreadyOwnedByYou", "BucketAlreadyExists"), s3.create_bucket, Bucket=BUCKET)


@promise
def nothing_can_be_made_public():
    refused(("AccessControlListNotSupported", "NotImplemented"), put, "public", ACL="public-read")
    refused("NoSuchKey", get, "public")
    put("public", ACL="private")
    refused(("AccessControlListNotSupported", "NotImplemented"), s3.put_object_acl, Bucket=BUCKET, Key="public", ACL="public-read")
    grants = s3.get_object_acl(Bucket=BUCKET, Key="public")["Grants"]
    assert [one["Permission"] for one in grants] == ["FULL_CONTROL"]


@promise
def what_is_too_much_metadata_is_refused():
    refused("MetadataTooLarge", put, "meta", Metadata={"a": "x" * 2100})


@promise
def an_interrupted_body_leaves_the_old_object():
    put("interrupted", b"before")
    host, port = urllib.parse.urlsplit(ENDPOINT).netloc.split(":")
    import socket

    moment = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": f"{host}:{port}", "x-amz-date": moment, "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    headers["authorization"], _ = signature("PUT", f"/{BUCKET}/interrupted", "", headers, "UNSIGNED-PAYLOAD", moment)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"PUT /{BUCKET}/interrupted HTTP/1.1\r\n{lines}content-length: 1000000\r\n\r\n".encode() + b"x" * 400_000)
    assert read("interrupted") == b"before"


def main():
    failed = 0
    for check in PROMISES:
        name = check.__name__.replace("_", " ")
        try:
            check()
            print(f"kept    {name}", flush=True)
        except Exception as error:  # noqa: BLE001
            failed += 1
            where = traceback.extract_tb(error.__traceback__)
            line = next((one.lineno for one in reversed(where) if one.filename == __file__), 0)
            print(f"BROKEN  {name}: line {line}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    print(f"{len(PROMISES) - failed} of {len(PROMISES)} promises kept")
    sys.exit(1 if failed else 0)


main()
