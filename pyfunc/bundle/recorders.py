"""What a pickle may name, and the inert objects that stand for it.

A pair outside the tables is refused. A pair inside them is never looked up in a module: it becomes a `Name`,
calling it becomes a `Recorded`, and that stores what it was given. The tables were learnt from bundles that
econml 0.15 to 0.17, scikit-learn 1.5 to 1.9, numpy 1.26 to 2.4 and torch 2.13 wrote. First-stage models are
dead weight that is read past; they are named one by one as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Name:
    """A module's member that a pickle refers to."""

    module: str
    name: str


@dataclass(slots=True, eq=False)
class Recorded:
    """An object a pickle describes: what would be called with what, and what would be put into it."""

    name: Name
    args: tuple[object, ...]
    state: object = None
    has_state: bool = False
    elements: list[object] = field(default_factory=list)
    items: list[tuple[object, object]] = field(default_factory=list)


def _table(modules: Mapping[str, str]) -> dict[tuple[str, str], Name]:
    return {(m, n): Name(m, n) for m, names in modules.items() for n in names.split()}


BUNDLE_NAMES = _table(
    {
        "collections": "OrderedDict",
        "_codecs": "encode",
        "__builtin__": "bytes",
        # arrays and scalars
        "numpy": "dtype ndarray",
        "numpy.ma": "MaskedArray",
        "numpy.ma.core": "MaskedArray _mareconstruct",
        "numpy.core.multiarray": "_reconstruct scalar",
        "numpy._core.multiarray": "_reconstruct scalar",
        "numpy.core.numeric": "_frombuffer",
        "numpy._core.numeric": "_frombuffer",
        "joblib.numpy_pickle": "NumpyArrayWrapper",
        # random states
        "numpy.random._pickle": "__bit_generator_ctor __generator_ctor __randomstate_ctor",
        "numpy.random._mt19937": "MT19937",
        "numpy.random._pcg64": "PCG64",
        "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
        # nets
        "torch._utils": "_rebuild_tensor_v2",
        "torch.storage": "_load_from_bytes",
        "torch.torch_version": "TorchVersion",
        # estimators of effects
        "econml.dml.causal_forest": "CausalForestDML _CausalForestFinalWrapper "
        "_GenericSingleOutcomeModelFinalWithCovInference",
        "econml.dml.dml": "LinearDML SparseLinearDML _FinalWrapper _FirstStageSelector _FirstStageWrapper",
        "econml.dml._rlearner": "_ModelFinal _ModelNuisance",
        "econml._ortho_learner": "CachedValues",
        "econml.grf._base_grftree": "GRFTree",
        "econml.grf.classes": "CausalForest MultiOutputGRF",
        "econml.tree._tree": "Tree",
        "econml.inference._inference": "GenericModelFinalInference GenericSingleTreatmentModelFinalInference "
        "LinearModelFinalInference StatsModelsInference",
        "econml.sklearn_extensions.linear_model": "DebiasedLasso MultiOutputDebiasedLasso "
        "StatsModelsLinearRegression "
        "WeightedLasso WeightedLassoCV WeightedLassoCVWrapper WeightedLassoWrapper WeightedMultiTaskLassoCV",
        "econml.sklearn_extensions.model_selection": "FixedModelSelector ListSelector SklearnCVSelector "
        "WeightedKFold WeightedStratifiedKFold",
        "econml.utilities": "_TransformerWrapper add_intercept",
        "econml.validate.sensitivity_analysis": "SensitivityParams",
        # scalers, and first stages with what they hold
        "sklearn.preprocessing._data": "MaxAbsScaler MinMaxScaler PolynomialFeatures PowerTransformer "
        "QuantileTransformer RobustScaler StandardScaler",
        "sklearn.preprocessing._polynomial": "PolynomialFeatures",
        "sklearn.preprocessing._function_transformer": "FunctionTransformer",
        "sklearn.impute._base": "SimpleImputer",
        "sklearn.pipeline": "Pipeline",
        "sklearn.compose._target": "TransformedTargetRegressor",
        "sklearn.dummy": "DummyRegressor",
        "sklearn.linear_model._base": "LinearRegression",
        "sklearn.linear_model._bayes": "ARDRegression BayesianRidge",
        "sklearn.linear_model._coordinate_descent": "ElasticNet ElasticNetCV Lasso LassoCV "
        "MultiTaskElasticNet MultiTaskElasticNetCV MultiTaskLasso MultiTaskLassoCV",
        "sklearn.linear_model._huber": "HuberRegressor",
        "sklearn.linear_model._least_angle": "Lars LarsCV LassoLars LassoLarsCV LassoLarsIC",
        "sklearn.linear_model._ridge": "Ridge RidgeCV _RidgeGCV",
        "sklearn.linear_model._stochastic_gradient": "SGDRegressor",
        "sklearn.ensemble._bagging": "BaggingRegressor",
        "sklearn.ensemble._forest": "ExtraTreesRegressor RandomForestRegressor",
        "sklearn.ensemble._gb": "GradientBoostingRegressor",
        "sklearn.ensemble._stacking": "StackingRegressor",
        "sklearn.ensemble._voting": "VotingRegressor",
        "sklearn.ensemble._weight_boosting": "AdaBoostRegressor",
        "sklearn.ensemble._hist_gradient_boosting.binning": "_BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": "HistGradientBoostingRegressor",
        "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
        "sklearn._loss._loss": "CyHalfSquaredError",
        "sklearn._loss.link": "IdentityLink Interval",
        "sklearn._loss.loss": "HalfSquaredError",
        "sklearn.tree._classes": "DecisionTreeRegressor ExtraTreeRegressor",
        "sklearn.tree._tree": "Tree",
        "sklearn.kernel_ridge": "KernelRidge",
        "sklearn.svm._classes": "LinearSVR NuSVR SVR",
        "sklearn.neighbors._regression": "KNeighborsRegressor",
        "sklearn.neighbors._kd_tree": "KDTree newObj",
        "sklearn.neighbors._ball_tree": "BallTree newObj",
        "sklearn.metrics._dist_metrics": "EuclideanDistance64 newObj",
        "sklearn.metrics._scorer": "_PassthroughScorer",
        "sklearn.neural_network._multilayer_perceptron": "MLPRegressor",
        "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
        "sklearn.model_selection._search": "GridSearchCV RandomizedSearchCV",
        "sklearn.model_selection._split": "GroupKFold KFold PredefinedSplit RepeatedKFold ShuffleSplit "
        "TimeSeriesSplit _CVIterableWrapper",
        "sklearn.utils._bunch": "Bunch",
    }
)

STORAGE_NAMES = _table(
    {
        "torch": "BFloat16Storage BoolStorage ByteStorage CharStorage DoubleStorage FloatStorage HalfStorage "
        "IntStorage LongStorage ShortStorage",
        "torch.storage": "UntypedStorage",
        "collections": "OrderedDict",
    }
)
"""What may stand in the pickles of torch's legacy storage layout; of the storages only floats are read."""
