CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE combination (
    layer INTEGER NOT NULL,
    neuron INTEGER NOT NULL,
    combination SMALLINT NOT NULL,
    count BIGINT NOT NULL,
    first_count BIGINT NOT NULL,
    mass DOUBLE NOT NULL,
    tau DOUBLE,
    statistics BLOB NOT NULL,
    histogram BLOB NOT NULL,
    lists BLOB NOT NULL,
    PRIMARY KEY (layer, neuron, combination)
);

CREATE TABLE document (
    id INTEGER NOT NULL,
    name TEXT NOT NULL,
    split SMALLINT NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE explanation (
    id INTEGER NOT NULL,
    layer INTEGER NOT NULL,
    neuron INTEGER NOT NULL,
    combination SMALLINT NOT NULL,
    source VARCHAR(16) NOT NULL,
    author TEXT,
    text TEXT NOT NULL,
    claims_json TEXT NOT NULL,
    evidence_hash TEXT NOT NULL,
    prompt_version TEXT NOT NULL,
    model TEXT NOT NULL,
    server TEXT NOT NULL,
    unsealed BOOLEAN NOT NULL,
    parent_id INTEGER,
    created VARCHAR(32) NOT NULL,
    superseded_by INTEGER,
    PRIMARY KEY (id),
    CONSTRAINT fk_explanation_parent_id FOREIGN KEY(parent_id) REFERENCES explanation (id),
    CONSTRAINT fk_explanation_superseded_by FOREIGN KEY(superseded_by) REFERENCES explanation (id)
);

CREATE INDEX ix_explanation_layer_neuron_combination ON explanation (layer, neuron, combination);

CREATE TABLE hypothesis (
    id INTEGER NOT NULL,
    run VARCHAR(64) NOT NULL,
    round INTEGER NOT NULL,
    place INTEGER NOT NULL,
    layer INTEGER NOT NULL,
    neuron INTEGER NOT NULL,
    combination SMALLINT NOT NULL,
    text TEXT NOT NULL,
    claims_json TEXT NOT NULL,
    prediction_json TEXT NOT NULL,
    outcome_json TEXT,
    status VARCHAR(16) NOT NULL,
    model TEXT NOT NULL,
    server TEXT NOT NULL,
    prompt_version TEXT NOT NULL,
    created VARCHAR(32) NOT NULL,
    tested VARCHAR(32),
    PRIMARY KEY (id)
);

CREATE INDEX ix_hypothesis_layer_neuron ON hypothesis (layer, neuron);

CREATE UNIQUE INDEX ix_hypothesis_run_round_place ON hypothesis (run, round, place);

CREATE TABLE index_info (
    "key" TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY ("key")
);

CREATE TABLE judge_check (
    id INTEGER NOT NULL,
    model TEXT NOT NULL,
    server TEXT NOT NULL,
    kind TEXT NOT NULL,
    prompt_version TEXT NOT NULL,
    auroc DOUBLE,
    passed BOOLEAN NOT NULL,
    details TEXT NOT NULL,
    created VARCHAR(32) NOT NULL,
    PRIMARY KEY (id)
);

CREATE INDEX ix_judge_check_model_server_prompt_version ON judge_check (model, server, prompt_version);

CREATE TABLE layer (
    layer INTEGER NOT NULL,
    neurons INTEGER NOT NULL,
    first_ordinal INTEGER NOT NULL,
    baselines TEXT NOT NULL,
    PRIMARY KEY (layer)
);

CREATE TABLE llm_item (
    request_hash VARCHAR(64) NOT NULL,
    purpose VARCHAR(32) NOT NULL,
    status VARCHAR(16) NOT NULL,
    response TEXT NOT NULL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cost DOUBLE,
    latency DOUBLE,
    attempt INTEGER NOT NULL,
    model TEXT NOT NULL,
    server TEXT NOT NULL,
    prompt_version TEXT NOT NULL,
    created VARCHAR(32) NOT NULL,
    PRIMARY KEY (request_hash)
)
 WITHOUT ROWID;

CREATE TABLE neighbour (
    ordinal INTEGER NOT NULL,
    ordinals BLOB NOT NULL,
    cosines BLOB NOT NULL,
    PRIMARY KEY (ordinal)
);

CREATE TABLE neuron (
    layer INTEGER NOT NULL,
    neuron INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    cos_gate_in DOUBLE NOT NULL,
    cos_gate_out DOUBLE NOT NULL,
    cos_in_out DOUBLE NOT NULL,
    norm_gate DOUBLE NOT NULL,
    norm_in DOUBLE NOT NULL,
    norm_out DOUBLE NOT NULL,
    io_class TEXT NOT NULL,
    atypical BOOLEAN NOT NULL,
    sign SMALLINT NOT NULL,
    variance DOUBLE NOT NULL,
    skew DOUBLE NOT NULL,
    kurtosis DOUBLE NOT NULL,
    role TEXT,
    attention_score DOUBLE,
    attention_head SMALLINT,
    entropy_share DOUBLE,
    double_checking DOUBLE,
    double_checking_token INTEGER,
    tokens BIGINT,
    zeros BIGINT,
    frequency_pp DOUBLE,
    frequency_pm DOUBLE,
    frequency_mp DOUBLE,
    frequency_mm DOUBLE,
    mass_pp DOUBLE,
    mass_pm DOUBLE,
    mass_mp DOUBLE,
    mass_mm DOUBLE,
    mass DOUBLE,
    first_values BLOB,
    PRIMARY KEY (layer, neuron)
);

CREATE INDEX ix_neuron_io_class_atypical ON neuron (io_class, atypical);

CREATE INDEX ix_neuron_kurtosis ON neuron (kurtosis);

CREATE INDEX ix_neuron_mass ON neuron (mass);

CREATE INDEX ix_neuron_norm_out ON neuron (norm_out);

CREATE UNIQUE INDEX ix_neuron_ordinal ON neuron (ordinal);

CREATE INDEX ix_neuron_role ON neuron (role);

CREATE INDEX ix_neuron_skew ON neuron (skew);

CREATE TABLE prediction_fit (
    id INTEGER NOT NULL,
    name VARCHAR(64) NOT NULL,
    info TEXT NOT NULL,
    created VARCHAR(32) NOT NULL,
    PRIMARY KEY (id)
);

CREATE UNIQUE INDEX ix_prediction_fit_name ON prediction_fit (name);

CREATE TABLE projection (
    layer INTEGER NOT NULL,
    neuron INTEGER NOT NULL,
    ids BLOB NOT NULL,
    scores BLOB NOT NULL,
    moments BLOB NOT NULL,
    PRIMARY KEY (layer, neuron)
);

CREATE TABLE published_neuron (
    layer INTEGER NOT NULL,
    neuron INTEGER NOT NULL,
    frequency_pp DOUBLE,
    frequency_pm DOUBLE,
    frequency_mp DOUBLE,
    frequency_mm DOUBLE,
    statistics BLOB NOT NULL,
    list_values BLOB NOT NULL,
    list_texts BLOB NOT NULL,
    list_positions BLOB,
    repaired TEXT NOT NULL,
    PRIMARY KEY (layer, neuron)
);

CREATE TABLE published_text (
    id INTEGER NOT NULL,
    tokens BLOB NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE published_token (
    id INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE token (
    id INTEGER NOT NULL,
    bytes BLOB,
    norm_unembedding FLOAT NOT NULL,
    norm_embedding FLOAT NOT NULL,
    count_explain BIGINT NOT NULL,
    count_select BIGINT NOT NULL,
    count_test BIGINT NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE token_neuron (
    kind SMALLINT NOT NULL,
    token_id INTEGER NOT NULL,
    segment SMALLINT NOT NULL,
    neurons BLOB NOT NULL,
    PRIMARY KEY (kind, token_id, segment)
)
 WITHOUT ROWID;

CREATE TABLE trace (
    layer INTEGER NOT NULL,
    neuron INTEGER NOT NULL,
    text_id INTEGER NOT NULL,
    start INTEGER NOT NULL,
    "values" BLOB NOT NULL,
    PRIMARY KEY (layer, neuron, text_id)
);

CREATE TABLE traced_tokens (
    layer INTEGER NOT NULL,
    neuron INTEGER NOT NULL,
    numbers BLOB NOT NULL,
    "values" BLOB NOT NULL,
    sets TEXT NOT NULL,
    plan_version TEXT NOT NULL,
    PRIMARY KEY (layer, neuron)
);

CREATE TABLE prediction_result (
    fit_id INTEGER NOT NULL,
    kind VARCHAR(32) NOT NULL,
    "key" VARCHAR(255) NOT NULL,
    value TEXT NOT NULL,
    created VARCHAR(32) NOT NULL,
    PRIMARY KEY (fit_id, kind, "key"),
    CONSTRAINT fk_prediction_result_fit_id FOREIGN KEY(fit_id) REFERENCES prediction_fit (id)
);

CREATE TABLE prediction_score (
    fit_id INTEGER NOT NULL,
    text VARCHAR(255) NOT NULL,
    layer INTEGER NOT NULL,
    predictor VARCHAR(32) NOT NULL,
    about TEXT NOT NULL,
    "values" BLOB NOT NULL,
    PRIMARY KEY (fit_id, text, layer, predictor),
    CONSTRAINT fk_prediction_score_fit_id FOREIGN KEY(fit_id) REFERENCES prediction_fit (id)
);

CREATE TABLE score (
    id INTEGER NOT NULL,
    explanation_id INTEGER NOT NULL,
    metric TEXT NOT NULL,
    negative_set TEXT NOT NULL,
    split SMALLINT NOT NULL,
    value DOUBLE,
    lo DOUBLE,
    hi DOUBLE,
    n_pos INTEGER NOT NULL,
    n_neg INTEGER NOT NULL,
    n_failed INTEGER NOT NULL,
    "view" TEXT NOT NULL,
    judge TEXT NOT NULL,
    tau DOUBLE,
    reason TEXT,
    p DOUBLE,
    seed BIGINT NOT NULL,
    protocol_version TEXT NOT NULL,
    reading INTEGER,
    created VARCHAR(32) NOT NULL,
    superseded_by INTEGER,
    PRIMARY KEY (id),
    CONSTRAINT fk_score_explanation_id FOREIGN KEY(explanation_id) REFERENCES explanation (id),
    CONSTRAINT fk_score_superseded_by FOREIGN KEY(superseded_by) REFERENCES score (id)
);

CREATE INDEX ix_score_explanation_id ON score (explanation_id);

CREATE TABLE text (
    id INTEGER NOT NULL,
    document_id INTEGER NOT NULL,
    split SMALLINT NOT NULL,
    first_token BIGINT NOT NULL,
    n_tokens INTEGER NOT NULL,
    tokens BLOB NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT fk_text_document_id FOREIGN KEY(document_id) REFERENCES document (id)
);

CREATE UNIQUE INDEX ix_text_first_token ON text (first_token);

CREATE TABLE score_control (
    score_id INTEGER NOT NULL,
    kind VARCHAR(64) NOT NULL,
    value DOUBLE,
    lift DOUBLE,
    lift_lo DOUBLE,
    lift_hi DOUBLE,
    PRIMARY KEY (score_id, kind),
    CONSTRAINT fk_score_control_score_id FOREIGN KEY(score_id) REFERENCES score (id)
);
