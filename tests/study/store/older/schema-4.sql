BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE nas_architectures (
	digest VARCHAR(16) NOT NULL, 
	content JSON NOT NULL, 
	PRIMARY KEY (digest)
);
INSERT INTO "nas_architectures" VALUES('8405ed6e1264541e','{"schema": 1, "backbone": {"name": "resnet_micro", "stem": "small"}, "num_classes": 10, "in_chans": 1, "norm": "batch", "stages": [{"pattern": "none"}, {"pattern": "none"}, {"pattern": "none"}, {"pattern": "none"}]}');
INSERT INTO "nas_architectures" VALUES('599a79c97a358313','{"schema": 1, "backbone": {"name": "resnet_micro", "stem": "small"}, "num_classes": 10, "in_chans": 1, "norm": "batch", "stages": [{"pattern": "p1", "attention": "se", "reduction": 4, "lambda_init": 1.0, "learnable": false, "gate_init": "textbook"}, {"pattern": "p1", "attention": "se", "reduction": 8, "lambda_init": 1.0, "learnable": false, "gate_init": "textbook"}, {"pattern": "p1", "attention": "se", "reduction": 16, "lambda_init": 1.0, "learnable": false, "gate_init": "textbook"}, {"pattern": "p1", "attention": "se", "reduction": 16, "lambda_init": 1.0, "learnable": false, "gate_init": "textbook"}]}');
INSERT INTO "nas_architectures" VALUES('d1098a26b00d1e38','{"schema": 1, "backbone": {"name": "resnet_micro", "stem": "small"}, "num_classes": 10, "in_chans": 1, "norm": "batch", "stages": [{"pattern": "p2", "attention": "se", "reduction": 4, "lambda_init": 1.0, "learnable": false, "gate_init": "textbook"}, {"pattern": "p4", "attention": "se", "skip_attention": "se", "reduction": 8, "gamma_skip_init": 0.05, "gamma_residual_init": 0.1, "learnable": false, "gate_init": "textbook"}, {"pattern": "none"}, {"pattern": "p3", "attention": "se", "reduction": 16, "lambda_init": 1.0, "learnable": false, "gate_init": "textbook"}]}');
INSERT INTO "nas_architectures" VALUES('c56f3533c352e860','{"schema": 1, "backbone": {"name": "resnet_micro", "stem": "small"}, "num_classes": 10, "in_chans": 1, "norm": "batch", "stages": [{"pattern": "p1", "attention": "se", "reduction": 4, "lambda_init": 1.0, "learnable": false, "gate_init": "textbook"}, {"pattern": "p4", "attention": "se", "skip_attention": "se", "reduction": 8, "gamma_skip_init": 0.05, "gamma_residual_init": 0.1, "learnable": false, "gate_init": "textbook"}, {"pattern": "p2", "attention": "se", "reduction": 16, "lambda_init": 1.0, "learnable": false, "gate_init": "textbook"}, {"pattern": "p2", "attention": "se", "reduction": 16, "lambda_init": 1.0, "learnable": false, "gate_init": "textbook"}]}');
INSERT INTO "nas_architectures" VALUES('f7fabb85a30cd85b','{"schema": 1, "backbone": {"name": "resnet_micro", "stem": "small"}, "num_classes": 10, "in_chans": 1, "norm": "batch", "stages": [{"pattern": "p3", "attention": "se", "reduction": 4, "lambda_init": 1.0, "learnable": false, "gate_init": "textbook"}, {"pattern": "p3", "attention": "se", "reduction": 4, "lambda_init": 1.0, "learnable": false, "gate_init": "textbook"}, {"pattern": "p2", "attention": "se", "reduction": 16, "lambda_init": 1.0, "learnable": false, "gate_init": "textbook"}, {"pattern": "none"}]}');
CREATE TABLE nas_calibrations (
	task VARCHAR(16) NOT NULL, 
	run VARCHAR(128) NOT NULL, 
	result JSON NOT NULL, 
	PRIMARY KEY (task, run)
);
CREATE TABLE nas_costs (
	trial_id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	num_params BIGINT NOT NULL, 
	macs BIGINT NOT NULL, 
	peak_memory_mb FLOAT, 
	latency_ms FLOAT, 
	latency_low_ms FLOAT, 
	latency_high_ms FLOAT, 
	plain_latency_ms FLOAT, 
	device VARCHAR(256) NOT NULL, 
	broken VARCHAR(256), 
	PRIMARY KEY (trial_id)
);
CREATE TABLE nas_epochs (
	trial_id INTEGER NOT NULL, 
	seed BIGINT NOT NULL, 
	epoch INTEGER NOT NULL, 
	train_loss FLOAT, 
	val_loss FLOAT, 
	val_accuracy FLOAT NOT NULL, 
	learning_rate FLOAT NOT NULL, 
	grad_norm FLOAT, 
	train_s FLOAT NOT NULL, 
	val_s FLOAT NOT NULL, 
	val_top5 FLOAT, 
	val_macro_f1 FLOAT, 
	val_balanced_accuracy FLOAT, 
	PRIMARY KEY (trial_id, seed, epoch)
);
INSERT INTO "nas_epochs" VALUES(1,0,0,1.65860277414321899414e+00,1.85201167794655296994e+00,8.32869080779944259695e-01,0.1,2.98669528961181640625e+00,3.05077143600001363674e+01,2.56952375599939841777e+00,9.91643454038997229638e-01,8.36254465740840169374e-01,8.33449163449163421546e-01);
INSERT INTO "nas_epochs" VALUES(1,0,1,2.47399362921714771612e-01,7.02396063419437721719e-01,9.41504178272980496444e-01,9.54915028125263333491e-03,9.62516248226165771484e-01,3.13231411870001466004e+01,0.944755728999553,9.9721448467966578022e-01,9.41516163341605705205e-01,9.41645216645216720507e-01);
INSERT INTO "nas_epochs" VALUES(2,0,0,1.90159535408020019531e+00,2.14715933202036923788e+00,5.29247910863509751777e-01,0.1,2.35869812965393066406e+00,1.65166481039996142503e+01,1.63534458699996321229e+00,8.55153203342618351001e-01,4.7743376498836392896e-01,0.527972972972973);
INSERT INTO "nas_epochs" VALUES(2,0,1,4.66404592990875221936e-01,1.4755502344838091755e+00,8.44011142061281360859e-01,9.54915028125263333491e-03,1.01295924186706542968e+00,1.63635508650004339874e+01,1.2828566489997683675e+00,9.91643454038997229638e-01,0.842429816378919,0.843850278850279);
INSERT INTO "nas_epochs" VALUES(3,0,0,1.64568003416061392485e+00,2.06394274188283421977e+00,5.87743732590529255332e-01,0.1,3.03100085258483886718e+00,1.69010236179992716647e+01,1.37540573900059825973e+00,9.49860724233983266806e-01,5.90411295709925232344e-01,5.89716859716859831408e-01);
INSERT INTO "nas_epochs" VALUES(3,0,1,2.63419306278228737561e-01,1.19505305808234685294e+00,8.88579387186629543471e-01,9.54915028125263333491e-03,1.0700054168701171875e+00,1.91861884270001610275e+01,1.71447149800042097922e+00,9.88857938718662898835e-01,8.89572681741785609155e-01,8.89101244101244247985e-01);
INSERT INTO "nas_epochs" VALUES(4,0,0,1.90382070541381831496e+00,2.22136176064153900711e+00,4.76323119777158798804e-01,0.1,2.11042690277099609375e+00,1.80868747989998155389e+01,5.67267684000398730859e-01,9.6100278551532036797e-01,4.88376303033574044043e-01,4.75883740883740802285e-01);
INSERT INTO "nas_epochs" VALUES(4,0,1,4.92350792884826637951e-01,1.69040316525940115255e+00,8.38440111420612810277e-01,9.54915028125263333491e-03,1.07812058925628662109e+00,8.36692883399973652558e+00,1.04441435500029911054e+00,9.91643454038997229638e-01,8.29439952543437497567e-01,8.3886743886743886378e-01);
INSERT INTO "nas_epochs" VALUES(5,0,0,1.69483644962310786574e+00,2.20281217357242331544e+00,2.39554317548746509292e-01,0.1,3.33310627937316894531e+00,1.2470777208000072278e+01,7.12327836999975261278e-01,7.99442896935933178248e-01,2.09974370922646785819e-01,2.39920634920634923137e-01);
INSERT INTO "nas_epochs" VALUES(5,0,1,0.269150447845459,1.55670795068767420232e+00,0.754874651810585,9.54915028125263333491e-03,1.12171578407287597656e+00,1.03830433120001544013e+01,4.86086219999378954526e-01,9.74930362116991688914e-01,7.43447922988237586139e-01,7.56078936078936170162e-01);
CREATE TABLE nas_events (
	id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	seed BIGINT NOT NULL, 
	signal VARCHAR(64) NOT NULL, 
	epoch INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	value FLOAT, 
	threshold FLOAT, 
	stage INTEGER, 
	block INTEGER, 
	message TEXT NOT NULL, 
	trace JSON NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE nas_leases (
	trial_id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	worker_id VARCHAR(64) NOT NULL, 
	since FLOAT NOT NULL, 
	PRIMARY KEY (trial_id)
);
CREATE TABLE nas_measurements (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	digest VARCHAR(16) NOT NULL, 
	seed BIGINT NOT NULL, 
	budget INTEGER NOT NULL, 
	outcome VARCHAR(16) NOT NULL, 
	reason VARCHAR(256), 
	score FLOAT, 
	num_params BIGINT NOT NULL, 
	macs BIGINT NOT NULL, 
	latency_ms FLOAT, 
	wall_s FLOAT NOT NULL, 
	worker_id VARCHAR(64) NOT NULL, 
	finished_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (study_id, digest, seed, budget)
);
INSERT INTO "nas_measurements" VALUES(1,1,1,'8405ed6e1264541e',0,2,'complete',NULL,9.41504178272980496444e-01,308538,993536,NULL,6.71078376149998803148e+01,'host-3897-b5c5c829',1.79584467165312504765e+09);
INSERT INTO "nas_measurements" VALUES(2,1,2,'599a79c97a358313',0,2,'complete',NULL,8.44011142061281360859e-01,311742,996480,NULL,37.0852018329997,'host-3897-b5c5c829',1.79584470943008804319e+09);
INSERT INTO "nas_measurements" VALUES(3,1,3,'d1098a26b00d1e38',0,2,'complete',NULL,8.88579387186629543471e-01,309850,994688,NULL,4.00184270520003337878e+01,'host-3897-b5c5c829',1.79584474978265428539e+09);
INSERT INTO "nas_measurements" VALUES(4,1,4,'c56f3533c352e860',0,2,'complete',NULL,8.38440111420612810277e-01,312034,996736,NULL,2.94590421890006837202e+01,'host-3897-b5c5c829',1.79584477969355773923e+09);
INSERT INTO "nas_measurements" VALUES(5,1,5,'f7fabb85a30cd85b',0,2,'complete',NULL,0.754874651810585,309414,994304,NULL,2.5057147561999954632e+01,'host-3897-b5c5c829',1.79584480514681530003e+09);
CREATE TABLE nas_promotions (
	trial_id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	epochs INTEGER NOT NULL, 
	PRIMARY KEY (trial_id, epochs)
);
CREATE TABLE nas_schema (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "nas_schema" VALUES(4);
CREATE TABLE nas_scores (
	trial_id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	network VARCHAR(16) NOT NULL, 
	accuracy FLOAT NOT NULL, 
	loss FLOAT NOT NULL, 
	wall_s FLOAT NOT NULL, 
	worker_id VARCHAR(64) NOT NULL, 
	finished_at FLOAT NOT NULL, 
	PRIMARY KEY (trial_id)
);
CREATE TABLE nas_studies (
	study_id INTEGER NOT NULL, 
	name VARCHAR(512) NOT NULL, 
	created_at FLOAT NOT NULL, 
	target INTEGER NOT NULL, 
	config JSON NOT NULL, 
	config_text TEXT NOT NULL, 
	space JSON NOT NULL, 
	data JSON NOT NULL, 
	provenance JSON NOT NULL, 
	candidates_of INTEGER, 
	confirms INTEGER, 
	PRIMARY KEY (study_id), 
	UNIQUE (name)
);
INSERT INTO "nas_studies" VALUES(1,'older',1.79584453300482416149e+09,5,'{"schema": 1, "name": "older", "space": "patterns", "backbone": {"name": "resnet_micro", "stem": "small"}, "data": {"source": "digits", "image_size": null, "in_chans": null, "num_train": null, "val_fraction": 0.2, "test_fraction": 0.2, "split_seed": 0, "augment": true, "flip": null, "workers": 0}, "training": {"epochs": 2, "batch_size": 256, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "warmup_epochs": 1.0, "schedule": "cosine", "label_smoothing": 0.0, "clip_grad_norm": null, "zero_init_branches": null, "init_from": null, "precision": "32-true", "channels_last": true, "device": "auto", "threads": null}, "guard": {"thresholds": {}, "verdicts": {}, "recover_factor": 0.1}, "estimate": {"by": "full", "candidates": 500, "epochs": null, "networks": 3, "measure": "accuracy", "norm_images": 256}, "calibrate": null, "objectives": {"val_accuracy": "maximize"}, "constraints": [], "latency": {"batch": 1, "threads": 1, "repeats": 20}, "sampler": "tpe", "pruner": {"name": "median", "startup_trials": 8, "warmup_epochs": 1, "min_epochs": 1, "reduction_factor": 3}, "landmarks": ["plain", "se-everywhere"], "trials": 5, "seed": 0, "workers": 1, "timeout_s": null, "tracking": null}','schema: 1
name: older
space: patterns
data: {source: digits}
training: {epochs: 2, batch_size: 256}
landmarks: [plain, se-everywhere]
trials: 5
seed: 0
','{"schema": 1, "name": "patterns", "description": "one attention (SE), five patterns, four stages", "backbone": {"name": "resnet_micro", "stem": "small"}, "num_classes": 10, "in_chans": 1, "norm": ["batch"], "choices": {"pattern": ["none", "p1", "p2", "p3", "p4"], "attention": ["se"], "skip_attention": ["se"], "reduction": [16], "lambda_init": [1.0], "gamma_skip_init": [0.05], "gamma_residual_init": [0.1], "learnable": [false], "gate_init": ["textbook"]}, "stages": {}, "constraints": {"uniform": [], "fused_stages": {"min": 0, "max": 4}}}','{"source": "digits", "class_names": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "class_counts": [106, 110, 107, 109, 109, 110, 109, 107, 104, 108], "in_chans": 1, "image_size": 8, "num_train": 1079, "num_val": 359, "num_test": 359, "fingerprint": "d05af5e703b0a335dc0dae894e152a4e5417016d41b80f4b83484996a0af969b"}','{"packages": {"fusion-nas": "0.1.0", "torch": "2.15.0", "torchvision": "0.29.2", "timm": "1.0.31", "lightning": "2.6.6", "optuna": "5.0.0", "sqlalchemy": "2.1.9", "numpy": "2.4.6", "scikit-learn": "1.9.1"}, "python": "3.11.7", "platform": "Linux", "processor": "x86_64", "cpus": 2}',NULL,NULL);
INSERT INTO "nas_studies" VALUES(2,'broken-off',1.79584490987450575826e+09,9,'{"schema": 1, "name": "broken-off", "space": "patterns", "backbone": {"name": "resnet_micro", "stem": "small"}, "data": {"source": "digits", "image_size": null, "in_chans": null, "num_train": null, "val_fraction": 0.2, "test_fraction": 0.2, "split_seed": 0, "augment": true, "flip": null, "workers": 0}, "training": {"epochs": 30, "batch_size": 256, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "warmup_epochs": 1.0, "schedule": "cosine", "label_smoothing": 0.0, "clip_grad_norm": null, "zero_init_branches": null, "init_from": null, "precision": "32-true", "channels_last": true, "device": "auto", "threads": null}, "guard": {"thresholds": {}, "verdicts": {}, "recover_factor": 0.1}, "estimate": {"by": "full", "candidates": 500, "epochs": null, "networks": 3, "measure": "accuracy", "norm_images": 256}, "calibrate": null, "objectives": {"val_accuracy": "maximize"}, "constraints": [], "latency": {"batch": 1, "threads": 1, "repeats": 20}, "sampler": "tpe", "pruner": {"name": "median", "startup_trials": 8, "warmup_epochs": 1, "min_epochs": 1, "reduction_factor": 3}, "landmarks": ["plain", "se-everywhere"], "trials": 9, "seed": 0, "workers": 1, "timeout_s": null, "tracking": null}','schema: 1
name: broken-off
space: patterns
data: {source: digits}
training: {epochs: 30, batch_size: 256}
landmarks: [plain, se-everywhere]
trials: 9
seed: 0
','{"schema": 1, "name": "patterns", "description": "one attention (SE), five patterns, four stages", "backbone": {"name": "resnet_micro", "stem": "small"}, "num_classes": 10, "in_chans": 1, "norm": ["batch"], "choices": {"pattern": ["none", "p1", "p2", "p3", "p4"], "attention": ["se"], "skip_attention": ["se"], "reduction": [16], "lambda_init": [1.0], "gamma_skip_init": [0.05], "gamma_residual_init": [0.1], "learnable": [false], "gate_init": ["textbook"]}, "stages": {}, "constraints": {"uniform": [], "fused_stages": {"min": 0, "max": 4}}}','{"source": "digits", "class_names": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "class_counts": [106, 110, 107, 109, 109, 110, 109, 107, 104, 108], "in_chans": 1, "image_size": 8, "num_train": 1079, "num_val": 359, "num_test": 359, "fingerprint": "d05af5e703b0a335dc0dae894e152a4e5417016d41b80f4b83484996a0af969b"}','{"packages": {"fusion-nas": "0.1.0", "torch": "2.15.0", "torchvision": "0.29.2", "timm": "1.0.31", "lightning": "2.6.6", "optuna": "5.0.0", "sqlalchemy": "2.1.9", "numpy": "2.4.6", "scikit-learn": "1.9.1"}, "python": "3.11.7", "platform": "Linux", "processor": "x86_64", "cpus": 2}',NULL,NULL);
CREATE TABLE nas_tests (
	trial_id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	digest VARCHAR(16) NOT NULL, 
	num_images INTEGER NOT NULL, 
	correct BLOB NOT NULL, 
	PRIMARY KEY (trial_id)
);
CREATE TABLE nas_trials (
	trial_id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	digest VARCHAR(16) NOT NULL, 
	landmark VARCHAR(64), 
	crashes INTEGER NOT NULL, 
	reason VARCHAR(256), 
	PRIMARY KEY (trial_id), 
	UNIQUE (study_id, digest)
);
INSERT INTO "nas_trials" VALUES(1,1,'8405ed6e1264541e','plain',0,NULL);
INSERT INTO "nas_trials" VALUES(2,1,'599a79c97a358313','se-everywhere',0,NULL);
INSERT INTO "nas_trials" VALUES(3,1,'d1098a26b00d1e38',NULL,0,NULL);
INSERT INTO "nas_trials" VALUES(4,1,'c56f3533c352e860',NULL,0,NULL);
INSERT INTO "nas_trials" VALUES(5,1,'f7fabb85a30cd85b',NULL,0,NULL);
CREATE TABLE nas_workers (
	worker_id VARCHAR(64) NOT NULL, 
	study_id INTEGER NOT NULL, 
	host VARCHAR(256) NOT NULL, 
	pid INTEGER NOT NULL, 
	device VARCHAR(256) NOT NULL, 
	started_at FLOAT NOT NULL, 
	heartbeat_at FLOAT NOT NULL, 
	ended_at FLOAT, 
	PRIMARY KEY (worker_id)
);
INSERT INTO "nas_workers" VALUES('host-3897-b5c5c829',1,'host',5267,'cpu',1.79584460409579920771e+09,1.79584480480811691286e+09,1.79584480532032299045e+09);
INSERT INTO "nas_workers" VALUES('host-6609-7dbec907',2,'host',6708,'cpu',1.79584493585585570334e+09,1.79584493585585570334e+09,1.79584493588186240196e+09);
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'older');
INSERT INTO "studies" VALUES(2,'broken-off');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MAXIMIZE',1,0);
INSERT INTO "study_directions" VALUES(2,'MAXIMIZE',2,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_intermediate_values" VALUES(1,1,1,8.32869080779944259695e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(2,1,2,9.41504178272980496444e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(3,2,1,5.29247910863509751777e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(4,2,2,8.44011142061281360859e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(5,3,1,5.87743732590529255332e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(6,3,2,8.88579387186629543471e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(7,4,1,4.76323119777158798804e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(8,4,2,8.38440111420612810277e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(9,5,1,2.39554317548746509292e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(10,5,2,0.754874651810585,'FINITE');
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'stage1.pattern',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(2,1,'stage2.pattern',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(3,1,'stage3.pattern',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(4,1,'stage4.pattern',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(5,2,'stage1.pattern',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(6,2,'stage2.pattern',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(7,2,'stage3.pattern',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(8,2,'stage4.pattern',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(9,3,'stage1.pattern',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(10,3,'stage2.pattern',4.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(11,3,'stage3.pattern',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(12,3,'stage4.pattern',3.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(13,4,'stage1.pattern',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(14,4,'stage2.pattern',4.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(15,4,'stage3.pattern',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(16,4,'stage4.pattern',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(17,5,'stage1.pattern',3.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(18,5,'stage2.pattern',3.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(19,5,'stage3.pattern',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
INSERT INTO "trial_params" VALUES(20,5,'stage4.pattern',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["none", "p1", "p2", "p3", "p4"]}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_system_attributes" VALUES(1,1,'fixed_params','{"stage1.pattern": "none", "stage2.pattern": "none", "stage3.pattern": "none", "stage4.pattern": "none"}');
INSERT INTO "trial_system_attributes" VALUES(2,2,'fixed_params','{"stage1.pattern": "p1", "stage2.pattern": "p1", "stage3.pattern": "p1", "stage4.pattern": "p1"}');
INSERT INTO "trial_system_attributes" VALUES(3,6,'fixed_params','{"stage1.pattern": "none", "stage2.pattern": "none", "stage3.pattern": "none", "stage4.pattern": "none"}');
INSERT INTO "trial_system_attributes" VALUES(4,7,'fixed_params','{"stage1.pattern": "p1", "stage2.pattern": "p1", "stage3.pattern": "p1", "stage4.pattern": "p1"}');
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'landmark','"plain"');
INSERT INTO "trial_user_attributes" VALUES(2,2,'landmark','"se-everywhere"');
INSERT INTO "trial_user_attributes" VALUES(3,6,'landmark','"plain"');
INSERT INTO "trial_user_attributes" VALUES(4,7,'landmark','"se-everywhere"');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,9.41504178272980496444e-01,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,8.44011142061281360859e-01,'FINITE');
INSERT INTO "trial_values" VALUES(3,3,0,8.88579387186629543471e-01,'FINITE');
INSERT INTO "trial_values" VALUES(4,4,0,8.38440111420612810277e-01,'FINITE');
INSERT INTO "trial_values" VALUES(5,5,0,0.754874651810585,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-28 05:43:24.407927','2026-11-28 05:44:31.803452');
INSERT INTO "trials" VALUES(2,1,1,'COMPLETE','2026-11-28 05:44:32.181721','2026-11-28 05:45:09.488526');
INSERT INTO "trials" VALUES(3,2,1,'COMPLETE','2026-11-28 05:45:09.636681','2026-11-28 05:45:49.878081');
INSERT INTO "trials" VALUES(4,3,1,'COMPLETE','2026-11-28 05:45:50.077978','2026-11-28 05:46:19.790174');
INSERT INTO "trials" VALUES(5,4,1,'COMPLETE','2026-11-28 05:46:19.953549','2026-11-28 05:46:45.199414');
INSERT INTO "trials" VALUES(6,0,2,'WAITING',NULL,NULL);
INSERT INTO "trials" VALUES(7,1,2,'WAITING',NULL,NULL);
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE INDEX ix_nas_leases_study_id ON nas_leases (study_id);
CREATE INDEX ix_nas_workers_study_id ON nas_workers (study_id);
CREATE INDEX ix_nas_measurements_trial_id ON nas_measurements (trial_id);
CREATE INDEX ix_nas_scores_study_id ON nas_scores (study_id);
CREATE INDEX ix_nas_tests_study_id ON nas_tests (study_id);
CREATE INDEX ix_nas_costs_study_id ON nas_costs (study_id);
CREATE INDEX ix_nas_promotions_study_id ON nas_promotions (study_id);
CREATE INDEX ix_nas_events_trial_id ON nas_events (trial_id);
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;
