-- What is wanted and what was seen, one row per environment. The public status is derived
-- from a row (environments/status.py) and never stored.
CREATE TABLE environments (
    id                  text PRIMARY KEY CHECK (id ~ '^[a-z][a-z0-9]{11}$'),
    ordinal             smallint NOT NULL CHECK (ordinal BETWEEN 1 AND 250),
    name                text NOT NULL,
    region              text NOT NULL,
    account             text NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    tags                jsonb NOT NULL DEFAULT '{}',
    -- wanted
    spec                jsonb NOT NULL,
    generation          bigint NOT NULL DEFAULT 1 CHECK (generation >= 1),
    roll                bigint NOT NULL DEFAULT 1,
    deleting            boolean NOT NULL DEFAULT false,
    last_update         jsonb NOT NULL,
    -- seen
    good_spec           jsonb,
    observed_generation bigint NOT NULL DEFAULT 0,
    failed_generation   bigint NOT NULL DEFAULT 0,
    rolling_back        boolean NOT NULL DEFAULT false,
    last_change_failed  boolean NOT NULL DEFAULT false,
    deleted_at          timestamptz,
    -- the work in between
    checkpoints         jsonb NOT NULL DEFAULT '{}',
    secrets             jsonb NOT NULL,
    attempts            integer NOT NULL DEFAULT 0,
    next_attempt_at     timestamptz NOT NULL DEFAULT now(),
    last_error          text,
    lease_holder        text,
    lease_token         bigint NOT NULL DEFAULT 0,
    lease_expires_at    timestamptz,
    CHECK (observed_generation <= generation AND failed_generation <= generation),
    CHECK ((good_spec IS NULL) = (observed_generation = 0)),
    CHECK (deleted_at IS NULL OR deleting)
);

-- A name and an ordinal are free again once the environment is gone; its row and history stay.
CREATE UNIQUE INDEX environments_living_name ON environments (name) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX environments_living_ordinal ON environments (ordinal) WHERE deleted_at IS NULL;
CREATE INDEX environments_due ON environments (next_attempt_at) WHERE deleted_at IS NULL;

-- History, append-only. Not bound to the row: it outlives the environment.
CREATE TABLE events (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at               timestamptz NOT NULL DEFAULT clock_timestamp(),
    environment_id   text NOT NULL,
    environment_name text NOT NULL,
    kind             text NOT NULL,
    message          text NOT NULL,
    data             jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX events_by_environment ON events (environment_name, id);

CREATE TABLE access_keys (
    id            text PRIMARY KEY,
    sealed_secret text NOT NULL,
    principal_arn text NOT NULL,
    policy        jsonb NOT NULL,
    active        boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- Keys of the service itself, by name, e.g. the gateway's signing key.
CREATE TABLE service_keys (
    name       text PRIMARY KEY,
    sealed     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
